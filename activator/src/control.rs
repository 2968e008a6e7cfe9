//! The control protocol's server (ARCHITECTURE.md): samples out, hand-shakes in; only for who shows the token.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use pilotlight_crds::control::{
    ClaimLine, ClaimRequest, DrainRequest, PATH_CLAIM, PATH_DRAIN, PATH_RELEASE, PATH_SAMPLES, ReleaseRequest,
};
use serde::de::DeserializeOwned;
use tracing::{error, info, warn};

use crate::index::FunctionKey;
use crate::publish::Subscription;
use crate::registry::{NotYielded, Registry};
use crate::runtime::Shared;

const MAX_BODY: usize = 1024 * 1024;
/// So that a claimant notices when this activator is gone.
const CLAIM_LINE_EVERY: Duration = Duration::from_secs(1);

/// Where the token comes from.
#[derive(Clone, Debug, Default)]
pub enum Token {
    /// A file, read anew for each call, so that a rotated Secret needs no restart.
    File(PathBuf),
    /// The token itself.
    Fixed(String),
    /// None: every call is refused.
    #[default]
    Missing,
}

/// What calls need.
#[derive(Clone)]
pub struct Control {
    /// What all Functions share.
    pub shared: Arc<Shared>,
    /// The Functions.
    pub registry: Arc<Registry>,
    /// Who may call.
    pub token: Token,
}

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The token is wrong or missing.
    #[error(
        "the bearer token is missing or wrong: operator and activator must mount the same Secret (--control-token-file)"
    )]
    Unauthorized,
    /// There is no such call.
    #[error("no such call: GET {PATH_SAMPLES}, POST {PATH_DRAIN}, POST {PATH_RELEASE}, POST {PATH_CLAIM}")]
    NotFound,
    /// This activator does not know the Function (yet).
    #[error("this activator does not know the Function {0}")]
    UnknownFunction(FunctionKey),
    /// The claim is of an older epoch than this activator knows.
    #[error("epoch {claimed} does not name the owner of {function} any more: this activator knows epoch {known}")]
    Outdated {
        /// Which Function.
        function: FunctionKey,
        /// The claim's epoch.
        claimed: i64,
        /// The epoch that is known here.
        known: i64,
    },
    /// The body is not what the call takes.
    #[error("the body is not understood: {0}")]
    Body(String),
}

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl ControlError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound | Self::UnknownFunction(_) => StatusCode::NOT_FOUND,
            Self::Outdated { .. } => StatusCode::CONFLICT,
            Self::Body(_) => StatusCode::BAD_REQUEST,
        }
    }

    fn reply(&self) -> Reply {
        let mut reply = Response::new(Full::from(format!("{self}\n")).boxed_unsync());
        *reply.status_mut() = self.status();
        reply
    }
}

/// Answers one call.
pub async fn handle(control: Control, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let reply = answer(&control, request).await;
    Ok(reply.unwrap_or_else(|error| {
        warn!(%error, "refused a call on the control port");
        error.reply()
    }))
}

async fn answer(control: &Control, request: Request<Incoming>) -> Result<Reply, ControlError> {
    authorize(&control.token, request.headers()).await?;
    match (request.method(), request.uri().path()) {
        (&Method::GET, PATH_SAMPLES) => Ok(samples(control)),
        (&Method::POST, PATH_DRAIN) => {
            let drain: DrainRequest = read(request).await?;
            let key = FunctionKey::new(drain.namespace.as_str(), drain.name.as_str());
            let answer = control.registry.drain(&key, &drain).await.ok_or(ControlError::UnknownFunction(key))?;
            Ok(json(&answer))
        }
        (&Method::POST, PATH_RELEASE) => {
            let release: ReleaseRequest = read(request).await?;
            let key = FunctionKey::new(release.namespace.as_str(), release.name.as_str());
            control.registry.release(&key, &release);
            let mut reply = Response::new(Full::default().boxed_unsync());
            *reply.status_mut() = StatusCode::NO_CONTENT;
            Ok(reply)
        }
        (&Method::POST, PATH_CLAIM) => {
            let request: ClaimRequest = read(request).await?;
            claim(&control.registry, &request)
        }
        _ => Err(ControlError::NotFound),
    }
}

/// Yields to the claimant, and tells what is still at the pods until nothing is.
fn claim(registry: &Registry, request: &ClaimRequest) -> Result<Reply, ControlError> {
    let key = FunctionKey::new(request.namespace.as_str(), request.name.as_str());
    let held = match registry.yield_to(&key, request.epoch, &request.owner) {
        Ok(held) => held,
        Err(NotYielded::Unknown) => return Err(ControlError::UnknownFunction(key)),
        Err(NotYielded::Knows(known)) => {
            return Err(ControlError::Outdated { function: key, claimed: request.epoch, known });
        }
    };
    info!(function = %key.name, namespace = %key.namespace, epoch = request.epoch, owner = %request.owner.pod, "yielded to the owner of a function");
    let lines = stream::unfold(Some(None::<ClaimLine>), move |told| {
        let held = held.clone();
        async move {
            match told? {
                Some(told) if told.held.is_empty() => return None,
                Some(told) => held.changed(&told.held, CLAIM_LINE_EVERY).await,
                None => {}
            }
            let line = ClaimLine { held: held.at_pods() };
            let mut text = serde_json::to_vec(&line).unwrap_or_default();
            text.push(b'\n');
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), Some(Some(line))))
        }
    });
    Ok(ndjson(lines))
}

fn ndjson(frames: impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static) -> Reply {
    let mut reply = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    reply
}

async fn authorize(token: &Token, headers: &HeaderMap) -> Result<(), ControlError> {
    let wanted = match token {
        Token::Fixed(token) => token.clone(),
        Token::Missing => return Err(ControlError::Unauthorized),
        Token::File(path) => match tokio::fs::read_to_string(path).await {
            Ok(token) => token.trim().to_owned(),
            Err(error) => {
                error!(%error, path = %path.display(), "cannot read --control-token-file");
                return Err(ControlError::Unauthorized);
            }
        },
    };
    let shown = headers
        .get(AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "))
        .unwrap_or_default();
    let matches = !wanted.is_empty() && equal(shown.as_bytes(), wanted.as_bytes());
    matches.then_some(()).ok_or(ControlError::Unauthorized)
}

/// Takes the same time wherever the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, ControlError> {
    let body = Limited::new(request.into_body(), MAX_BODY)
        .collect()
        .await
        .map_err(|error| ControlError::Body(error.to_string()))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| ControlError::Body(error.to_string()))
}

fn json(value: &impl serde::Serialize) -> Reply {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut reply = Response::new(Full::from(body).boxed_unsync());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn samples(control: &Control) -> Reply {
    let subscription = control.shared.publisher.subscribe(&control.registry, control.shared.epoch);
    let frames =
        lines(subscription).map(|line| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(line.as_bytes()))));
    ndjson(frames)
}

fn lines(subscription: Subscription) -> BoxStream<'static, Arc<str>> {
    let Subscription { first, lines } = subscription;
    let following = stream::unfold(lines, |mut lines| async move { lines.recv().await.ok().map(|line| (line, lines)) });
    stream::iter(first).chain(following).boxed()
}
