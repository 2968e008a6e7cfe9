//! Clients and pods that need more than a request and its answer: raw HTTP/1.1 byte by byte, one HTTP/2 connection for many streams,
//! bodies frame by frame.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{Body, FakePod, World};

pub(crate) type Frames = tokio::sync::mpsc::Sender<Result<Frame<Bytes>, Infallible>>;

/// A body that is fed by hand, one frame ahead at most.
pub(crate) fn channel() -> (Frames, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    (sender, StreamBody::new(ReceiverStream::new(receiver)).boxed_unsync())
}

pub(crate) fn data(bytes: impl Into<Bytes>) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(bytes.into()))
}

/// The next piece of a body that is not empty.
pub(crate) async fn next(body: &mut Incoming) -> Bytes {
    loop {
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        if !piece.is_empty() {
            return piece;
        }
    }
}

/// One HTTP/2 connection to the activator.
pub(crate) async fn h2(world: &World) -> SendRequest<Body> {
    h2_to(TcpStream::connect(world.activator.http).await.unwrap()).await
}

pub(crate) async fn h2_to(stream: TcpStream) -> SendRequest<Body> {
    stream.set_nodelay(true).unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A request to the Function over HTTP/2.
pub(crate) fn h2_get(path: &str) -> Request<Body> {
    Request::get(format!("http://hello.shop{path}")).body(crate::harness::empty()).unwrap()
}

/// A client that speaks HTTP/1.1 byte by byte.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    seen: Vec<u8>,
}

impl Raw {
    pub(crate) async fn to(world: &World) -> Self {
        Self::on(TcpStream::connect(world.activator.http).await.unwrap())
    }

    pub(crate) fn on(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, seen: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads until `end` was seen; gives everything up to it.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.seen.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.seen.split_off(at + end.len());
                let taken = std::mem::replace(&mut self.seen, rest);
                return String::from_utf8_lossy(&taken).into_owned();
            }
            let read = self.stream.read_buf(&mut self.seen).await.unwrap();
            assert!(read > 0, "closed, and {end:?} is not in {:?}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// The next head, in lower case.
    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await.to_lowercase()
    }

    /// The next answer: its head and its body of known length.
    pub(crate) async fn answer(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = head.split("content-length: ").nth(1).expect("a length").split("\r\n").next().unwrap();
        let length: usize = length.parse().unwrap();
        while self.seen.len() < length {
            assert!(self.stream.read_buf(&mut self.seen).await.unwrap() > 0, "the body is cut");
        }
        let rest = self.seen.split_off(length);
        let body = std::mem::replace(&mut self.seen, rest);
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// Whether the peer has closed; nothing may come any more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let end = self.stream.read_to_end(&mut rest).await;
        assert!(self.seen.is_empty() && rest.is_empty(), "{:?} {:?}", self.seen, rest);
        end.is_ok()
    }

    /// Whether nothing has come so far.
    pub(crate) fn is_silent(&mut self) -> bool {
        let nothing = matches!(self.stream.try_read(&mut [0; 1]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        nothing && self.seen.is_empty()
    }
}

/// A pod that handles each connection byte by byte. A connection without a byte is a probe's.
pub(crate) async fn raw_pod<F, R>(serve: F) -> FakePod
where
    F: Fn(Raw) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pod = FakePod::silent(listener.local_addr().unwrap());
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let serve = serve.clone();
            tokio::spawn(async move {
                let mut raw = Raw::on(stream);
                if raw.stream.read_buf(&mut raw.seen).await.unwrap_or(0) > 0 {
                    serve(raw).await;
                }
            });
        }
    });
    pod
}

/// Sends back whatever comes, frame by frame, trailers too; begins to answer at once.
pub(crate) async fn echo(request: Request<Incoming>) -> Response<Body> {
    let trailer = request.headers().get("trailer").cloned();
    let (sender, body) = channel();
    let mut incoming = request.into_body();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = incoming.frame().await {
            if sender.send(Ok(frame)).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(body);
    if let Some(trailer) = trailer {
        response.headers_mut().insert("trailer", trailer);
    }
    response
}
