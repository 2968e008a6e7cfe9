//! Ports of the host's loopback address that lead into the cluster. A socket belongs to the network namespace it was
//! made in: the listeners are made in the host's, and one thread that has entered the cluster's makes the connections.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

use nix::sched::{CloneFlags, setns};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use crate::error::{Error, Result};

/// A listening port and where it leads.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    target: SocketAddrV4,
}

impl Door {
    /// Listens on a port of 127.0.0.1 of the namespace that this thread is in; 0 for any. `flag` is named if it is taken.
    pub(crate) fn open(port: u16, target: SocketAddrV4, flag: &'static str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => Error::PortTaken { port, flag },
            _ => Error::Io { what: format!("listening on 127.0.0.1:{port}"), source },
        })?;
        Ok(Self { listener, target })
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> Result<u16> {
        let address = self.listener.local_addr();
        address
            .map(|address| address.port())
            .map_err(|source| Error::Io { what: "asking for the port".to_owned(), source })
    }
}

/// Serves the doors from a thread in the network namespace of process `init`, until this process ends.
pub(crate) fn serve(doors: Vec<Door>, init: u32) -> Result<()> {
    let path = std::path::PathBuf::from(format!("/proc/{init}/ns/net"));
    let namespace = File::open(&path).map_err(Error::io("opening", &path))?;
    std::thread::Builder::new()
        .name("forward".to_owned())
        .spawn(move || {
            if let Err(error) = serve_inside(doors, &namespace) {
                eprintln!("forward: {error}");
            }
        })
        .map(drop)
        .map_err(|source| Error::Io { what: "starting a thread".to_owned(), source })
}

fn serve_inside(doors: Vec<Door>, namespace: &File) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(Error::sys("entering the network namespace"))?;
    let io = |source| Error::Io { what: "forwarding".to_owned(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
    runtime.block_on(async {
        let mut accepting = tokio::task::JoinSet::new();
        for door in doors {
            door.listener.set_nonblocking(true).map_err(io)?;
            let listener = tokio::net::TcpListener::from_std(door.listener).map_err(io)?;
            accepting.spawn(accept(listener, door.target));
        }
        while let Some(ended) = accepting.join_next().await {
            if let Ok(Err(error)) = ended {
                eprintln!("forward: {error}");
            }
        }
        Ok(())
    })
}

async fn accept(listener: tokio::net::TcpListener, target: SocketAddrV4) -> std::io::Result<()> {
    loop {
        let (mut outside, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A refused connection shows on the other side as a closed one; there is nobody else to tell.
            if let Ok(mut inside) = TcpStream::connect(SocketAddr::V4(target)).await {
                let _ = outside.set_nodelay(true);
                let _ = inside.set_nodelay(true);
                let _ = copy_bidirectional(&mut outside, &mut inside).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_remedy() {
        let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        let first = Door::open(0, target, "--port").unwrap();
        let port = first.port().unwrap();
        let error = Door::open(port, target, "--port").unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--port"), "{error}");
    }
}
