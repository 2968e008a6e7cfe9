//! The smallest Function in Rust: it answers every request with one line of text.
//!
//! It keeps to the container contract: it listens on `$PORT`, and at SIGTERM it finishes what it has begun and exits.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let port: u16 = port.parse().with_context(|| format!("PORT must be a number from 1 to 65535, not {port:?}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    // IPv6 and IPv4 at once, or IPv4 alone where the node has no IPv6.
    let addresses: [SocketAddr; 2] = [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
    let listener = TcpListener::bind(&addresses[..]).await?;
    let graceful = GracefulShutdown::new();
    println!("listening on port {port}");

    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A peer that is gone before it was accepted is no reason to stop.
                let Ok((stream, _)) = accepted else { continue };
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service_fn(hello));
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        eprintln!("connection: {error}");
                    }
                });
            }
            _ = terminate.recv() => break,
        }
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let revision = std::env::var("K_REVISION").unwrap_or_else(|_| "my machine".to_owned());
    Ok(Response::new(Full::from(format!("Hello from Rust! ({revision})\n"))))
}
