//! An app that counts: which numbered requests (`/n/<number>`) came whole, and how many bytes each had. Nothing of a body is kept.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Seen = Arc<Mutex<Vec<(u64, u64)>>>;

/// A running app.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    seen: Seen,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(4096).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let counted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, counted.clone()));
            }
        });
        Self { address, seen }
    }

    /// Number and bytes of every request that came whole, in order.
    pub(crate) fn seen(&self) -> Vec<(u64, u64)> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, seen: Seen) -> Option<()> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let Some(head) = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else {
            let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
            bytes.extend_from_slice(&piece[..read]);
            continue;
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let number = text.split(' ').nth(1)?.strip_prefix("/n/")?.parse().ok()?;
        let length: usize =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        bytes.drain(..head);
        let mut had = bytes.len().min(length);
        bytes.drain(..had);
        while had < length {
            let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
            had += read;
        }
        seen.lock().unwrap().push((number, length as u64));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-app: yes\r\n\r\nok").await.ok()?;
    }
}
