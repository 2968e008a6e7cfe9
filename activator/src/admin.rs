//! `/livez`, `/readyz` and `/metrics`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::index::FunctionKey;
use crate::registry::Registry;
use crate::runtime::Shared;

/// Answers one request.
pub async fn handle(
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match shared.not_ready_because() {
            None => text(StatusCode::OK, "ok\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        "/metrics" => metrics(&shared, &registry),
        _ => text(StatusCode::NOT_FOUND, "/livez, /readyz, /metrics\n"),
    })
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}

fn metrics(shared: &Shared, registry: &Registry) -> Response<Full<Bytes>> {
    // Of the others there is nothing to tell.
    let told = registry.all().into_iter().filter(|cell| cell.metrics().exist());
    let mut loads: HashMap<FunctionKey, (u32, u32)> = HashMap::new();
    for cell in told {
        let (in_flight, queued) = cell.load();
        let sum = loads.entry(cell.key.clone()).or_default();
        *sum = (sum.0.saturating_add(in_flight), sum.1.saturating_add(queued));
    }
    let loads = loads.into_iter().map(|(key, (in_flight, queued))| (key, in_flight, queued));
    match shared.metrics.text(loads, shared.clients.len()) {
        Ok(body) => {
            let mut response = Response::new(Full::from(body));
            let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode metrics\n"),
    }
}
