//! Pods of tests, reached in memory: real HTTP servers on pipes, which count their connections and fail on demand.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pilotlight_crds::workload::Protocol;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

pub(crate) type TestBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Addresses, and the pods behind them.
#[derive(Clone, Debug, Default)]
pub struct MemoryNet {
    pods: Arc<Mutex<HashMap<SocketAddr, mpsc::UnboundedSender<DuplexStream>>>>,
    open: Arc<AtomicUsize>,
    refuse: Arc<AtomicUsize>,
    break_off: Arc<AtomicUsize>,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes one away, where there is one.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl MemoryNet {
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        tokio::task::yield_now().await;
        if take(&self.refuse) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = tokio::io::duplex(16 * 1024);
        let pods = self.pods.lock().unwrap();
        let pod = pods.get(&address).ok_or(io::ErrorKind::ConnectionRefused)?;
        pod.send(far).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }

    /// Connections that pods have now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The next connection is refused.
    pub(crate) fn refuse_next(&self) {
        self.refuse.store(1, Ordering::SeqCst);
    }

    /// The next request is read, and its connection closed.
    pub(crate) fn break_next(&self) {
        self.break_off.store(1, Ordering::SeqCst);
    }

    /// Starts a pod.
    pub(crate) fn serve(&self, address: SocketAddr, protocol: Protocol) {
        let (sender, mut connections) = mpsc::unbounded_channel();
        self.pods.lock().unwrap().insert(address, sender);
        let (open, break_off) = (self.open.clone(), self.break_off.clone());
        tokio::spawn(async move {
            while let Some(stream) = connections.recv().await {
                open.fetch_add(1, Ordering::SeqCst);
                let counted = Open(open.clone());
                let break_off = break_off.clone();
                tokio::spawn(async move {
                    serve_connection(stream, protocol, break_off).await;
                    drop(counted);
                });
            }
        });
    }
}

async fn serve_connection(stream: DuplexStream, protocol: Protocol, break_off: Arc<AtomicUsize>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let broken = take(&break_off);
        async move { if broken { Err(io::Error::from(io::ErrorKind::ConnectionReset)) } else { Ok(answer(request).await) } }
    });
    let io = TokioIo::new(stream);
    let _ = match protocol {
        Protocol::HTTP1 => {
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service).with_upgrades().await
        }
        Protocol::H2C => {
            http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).serve_connection(io, service).await
        }
    };
}

async fn answer(mut request: Request<Incoming>) -> Response<TestBody> {
    match request.uri().path() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Response::new(full("slow"))
        }
        "/stream" => Response::new(BodyExt::boxed_unsync(StreamBody::new(chunks(4)))),
        "/echo" => Response::new(request.into_body().map_err(Into::into).boxed_unsync()),
        "/upgrade" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let Ok(io) = upgrade.await else { return };
                let (mut read, mut write) = tokio::io::split(TokioIo::new(io));
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
            response
        }
        _ => Response::new(full("hello")),
    }
}

pub(crate) fn full(text: &'static str) -> TestBody {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

/// Pieces of a body, with pauses.
pub(crate) fn chunks(
    count: usize,
) -> impl futures::Stream<Item = Result<Frame<Bytes>, Box<dyn Error + Send + Sync>>> + Send {
    futures::stream::iter(0..count).then(|_| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(Frame::data(Bytes::from_static(b"piece ")))
    })
}
