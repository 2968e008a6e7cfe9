//! The ports for insiders: kubelet and Prometheus on one, operator and other activators on the other. Few connections, small heads.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::control::Control;
use crate::registry::Registry;
use crate::runtime::Shared;
use crate::{admin, control};

fn small_server() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60)).max_buf_size(64 * 1024);
    builder
}

/// Serves `/livez`, `/readyz` and `/metrics`, for ever.
pub async fn serve_admin(listener: TcpListener, shared: Arc<Shared>, registry: Arc<Registry>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (shared, registry) = (shared.clone(), registry.clone());
        let service = service_fn(move |request| admin::handle(shared.clone(), registry.clone(), request));
        tokio::spawn(small_server().serve_connection(TokioIo::new(stream), service));
    }
}

/// Serves the control protocol, for ever.
pub async fn serve_control(listener: TcpListener, control: Control) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let control = control.clone();
        let service = service_fn(move |request| control::handle(control.clone(), request));
        tokio::spawn(small_server().serve_connection(TokioIo::new(stream), service));
    }
}
