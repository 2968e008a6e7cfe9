//! `/livez`, `/readyz`, `/metrics` and `/decisions` on one port.
//!
//! `GET /decisions?namespace=&name=` answers with the autoscaler's last decisions for a Function and why, in the leader.

use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;

use crate::autoscaler::AutoscalerHandle;

/// What the server shows. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    registry: Arc<Registry>,
    ready: Arc<AtomicBool>,
    autoscaler: Arc<OnceLock<AutoscalerHandle>>,
}

impl Health {
    /// Not ready yet.
    pub fn new(registry: Registry) -> Self {
        Self { registry: Arc::new(registry), ready: Arc::default(), autoscaler: Arc::default() }
    }

    /// Whose decisions to show, from now on.
    pub fn show_decisions_of(&self, autoscaler: AutoscalerHandle) {
        // A process leads once; when that is over, it ends.
        let _ = self.autoscaler.set(autoscaler);
    }

    /// Says whether the process does its part: it reconciles, or stands by to.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn answer(&self, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match uri.path() {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ok\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "the API server has not answered yet\n"),
            "/metrics" => self.metrics(),
            "/decisions" => self.decision(uri.query().unwrap_or_default()),
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz, /metrics and /decisions\n"),
        }
    }

    fn decision(&self, query: &str) -> Response<Full<Bytes>> {
        // Names of namespaces and Functions need no escaping.
        let value = |key: &str| {
            query.split('&').filter_map(|pair| pair.split_once('=')).find_map(|(k, v)| (k == key).then_some(v))
        };
        let (Some(namespace), Some(name)) = (value("namespace"), value("name")) else {
            return text(StatusCode::BAD_REQUEST, "ask as /decisions?namespace=NAMESPACE&name=FUNCTION\n");
        };
        let Some(autoscaler) = self.autoscaler.get() else {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "this process stands by; ask the pod that holds the Lease (kubectl get lease: HOLDER)\n",
            );
        };
        let Some(decision) = autoscaler.decisions(namespace, name) else {
            return text(StatusCode::NOT_FOUND, "no decision about this Function yet\n");
        };
        let mut response = Response::new(Full::from(decision.to_string()));
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut body = String::new();
        encode(&mut body, &self.registry).expect("writing to a String cannot fail");
        let mut response = Response::new(Full::from(body));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
        );
        response
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}

/// Serves on `listener` for ever.
pub async fn serve(listener: TcpListener, health: Health) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely; they come back.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let health = health.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = health.answer(request.method(), request.uri());
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = Builder::new(TokioExecutor::new());
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(health: &Health, path: &str) -> u16 {
        let uri = path.parse().unwrap();
        health.answer(&Method::GET, &uri).status().as_u16()
    }

    #[test]
    fn readiness_follows_what_was_set_and_liveness_does_not() {
        let health = Health::new(Registry::default());
        assert_eq!((status(&health, "/livez"), status(&health, "/readyz")), (200, 503));
        health.set_ready(true);
        assert_eq!((status(&health, "/livez"), status(&health, "/readyz")), (200, 200));
        assert_eq!((status(&health, "/metrics"), status(&health, "/")), (200, 404));
        assert_eq!(status(&health, "/decisions"), 400);
        assert_eq!(status(&health, "/decisions?namespace=a&name=b"), 503);
    }
}
