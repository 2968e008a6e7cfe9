//! A raw app that reads with the strict oracle, records what it saw, and answers every whole request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::oracle::{Front, Message, front};

/// What the app saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Whole requests, in the order in which they were whole.
    pub(crate) messages: Vec<Message>,
    /// What it could not be sure of: always the activator's fault.
    pub(crate) ambiguous: Vec<String>,
}

/// A running app.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl App {
    /// Listens on any free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let recorded = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, recorded.clone()));
            }
        });
        Self { address, seen }
    }

    /// What it saw since it was asked last.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let _ = stream.set_nodelay(true);
    let mut bytes = Vec::new();
    loop {
        match front(&bytes) {
            Front::Whole(message, length) => {
                bytes.drain(..length);
                let body = format!("{} {}", message.method, String::from_utf8_lossy(&message.target));
                let body = if message.method == "HEAD" { String::new() } else { body };
                seen.lock().unwrap().messages.push(message);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-app: yes\r\n\r\n", body.len());
                if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
                    return;
                }
            }
            Front::Part => {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            Front::Ambiguous(why) => {
                seen.lock().unwrap().ambiguous.push(format!("{why}: {}", String::from_utf8_lossy(&bytes)));
                return;
            }
        }
    }
}
