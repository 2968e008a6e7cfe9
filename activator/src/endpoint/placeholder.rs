//! Tells a placeholder from a function. Both accept connections and answer probes on the same ports; only a placeholder says on one of its own
//! what it is.
//!
//! What always holds: a placeholder opens that port before any other and closes all at once, by ending. So where it is closed, whoever answers
//! on another port is no placeholder.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pilotlight_crds::park;
use tokio::io::AsyncReadExt;

use super::connect::{ConnectError, connect};
use super::stream::Dial;

/// Within a cluster an answer takes a millisecond.
const PATIENCE: Duration = Duration::from_millis(250);

/// Who answers on the placeholder's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A placeholder.
    Placeholder,
    /// Nobody, for certain: the connection was refused.
    Nobody,
    /// No answer that would tell.
    Silence,
}

/// Asks at a pod's address.
pub async fn ask(dial: &Dial, pod: IpAddr) -> Answer {
    let address = SocketAddr::new(pod, park::PORT);
    let mut stream = match connect(dial, address, PATIENCE).await {
        Ok(stream) => stream,
        Err(ConnectError::Pod(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Answer::Nobody;
        }
        Err(_) => return Answer::Silence,
    };
    let mut said = [0; park::GREETING.len()];
    match tokio::time::timeout(PATIENCE, stream.read_exact(&mut said)).await {
        Ok(Ok(_)) if said == *park::GREETING.as_bytes() => Answer::Placeholder,
        // It ended as it was asked: the next question tells.
        _ => Answer::Silence,
    }
}
