//! Asking one activator what it still has at a Function's pods, until it has nothing: the I/O of a claim.
//!
//! What always holds: only an answer, or proof that there is no process to answer, counts; anything else is tried again.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pilotlight_crds::control::{ClaimLine, ClaimRequest, PATH_CLAIM};
use tracing::{debug, info, warn};

use super::Peer;
use crate::endpoint::connect::{ConnectError, connect};
use crate::endpoint::schedule::Schedule;
use crate::function::FunctionCell;

/// A line comes at least once a second.
const SILENCE: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_millis(500);
/// Bytes of one line at most: some 10,000 pods.
const LINE: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error("no connection: {0}")]
    Connect(#[from] ConnectError),
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer is not of the protocol: {0}")]
    Garbage(String),
    #[error("this activator has no control token (--control-token-file)")]
    Token,
    #[error("its address is not known")]
    Address,
}

/// Asks the activator with this uid until it has nothing any more, or the epoch is over.
pub async fn run(cell: Weak<FunctionCell>, epoch: i64, uid: Arc<str>) {
    let mut schedule = Schedule::default();
    let mut told = false;
    loop {
        let Some(cell) = cell.upgrade() else { return };
        let Some((peer, me)) = cell.asks(epoch, &uid) else { return };
        let error = match ask(&cell, epoch, &peer, &me).await {
            Ok(()) => return,
            Err(error) => error,
        };
        if is_refused(&error) && is_over(&cell, &peer).await {
            info!(function = %cell.key.name, namespace = %cell.key.namespace, activator = %peer.pod, "its process is over, so it has no requests");
            cell.claim_answered(epoch, &uid, BTreeMap::new());
            return;
        }
        if cell.outwaited(epoch) {
            warn!(function = %cell.key.name, namespace = %cell.key.namespace, activator = %peer.pod, %error, "it did not answer for as long as a request may take: it is taken for gone");
            cell.claim_answered(epoch, &uid, BTreeMap::new());
            return;
        }
        if told {
            debug!(function = %cell.key.name, namespace = %cell.key.namespace, activator = %peer.pod, %error, "claim unanswered");
        } else {
            warn!(function = %cell.key.name, namespace = %cell.key.namespace, activator = %peer.pod, %error, "claim unanswered, will try again: until then the pods count as full");
            told = true;
        }
        drop(cell);
        tokio::time::sleep(schedule.next_pause()).await;
    }
}

fn is_refused(error: &ClaimError) -> bool {
    matches!(error, ClaimError::Connect(ConnectError::Pod(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether nobody listens where every activator listens: the control port alone might be closed by a policy, but the port of
/// requests is open to all, and while requests are in flight at least the first of the two is open.
async fn is_over(cell: &FunctionCell, peer: &Peer) -> bool {
    let Some(ip) = peer.ip else { return false };
    let attempt = connect(&cell.shared().dial, SocketAddr::new(ip, cell.shared().peers.http_port), CONNECT).await;
    attempt.is_err_and(|error| is_refused(&error.into()))
}

async fn ask(cell: &Arc<FunctionCell>, epoch: i64, peer: &Peer, me: &Peer) -> Result<(), ClaimError> {
    let mut body = open(cell, epoch, peer, me).await?;
    let mut buffer = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame()).await.map_err(|_| ClaimError::Silent)?;
        let Some(frame) = frame.transpose()? else {
            return Err(ClaimError::Garbage("it ends before everything has".to_owned()));
        };
        let Ok(data) = frame.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: ClaimLine = serde_json::from_slice(&buffer.split_to(end + 1))
                .map_err(|error| ClaimError::Garbage(error.to_string()))?;
            let over = line.held.is_empty();
            cell.claim_answered(epoch, &peer.uid, line.held);
            if over {
                return Ok(());
            }
        }
        if buffer.len() > LINE {
            return Err(ClaimError::Garbage(format!("a line of more than {LINE} bytes")));
        }
    }
}

async fn open(cell: &FunctionCell, epoch: i64, peer: &Peer, me: &Peer) -> Result<Incoming, ClaimError> {
    let peers = &cell.shared().peers;
    let token = peers.keys.current().ok_or(ClaimError::Token)?;
    let address = SocketAddr::new(peer.ip.ok_or(ClaimError::Address)?, peers.control_port);
    let claim = ClaimRequest {
        namespace: cell.key.namespace.to_string(),
        name: cell.key.name.to_string(),
        epoch,
        owner: me.into(),
    };
    let garbage = |error: &dyn std::fmt::Display| ClaimError::Garbage(error.to_string());
    let body = serde_json::to_vec(&claim).map_err(|error| garbage(&error))?;
    let request = Request::post(PATH_CLAIM)
        .header(HOST, address.to_string())
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Full::<Bytes>::from(body))
        .map_err(|error| garbage(&error))?;
    let stream = connect(&cell.shared().dial, address, CONNECT).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response =
        tokio::time::timeout(SILENCE, sender.send_request(request)).await.map_err(|_| ClaimError::Silent)??;
    if response.status() != StatusCode::OK {
        return Err(ClaimError::Status(response.status()));
    }
    Ok(response.into_body())
}
