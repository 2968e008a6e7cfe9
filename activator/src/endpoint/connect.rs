//! Opening a connection to a pod: short attempts, and a clear difference between a pod that does not answer and an activator that has
//! no sockets left.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::stream::{Dial, PodStream};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The pod refuses or does not answer.
    #[error("cannot connect: {0}")]
    Pod(io::Error),
    /// This process has no sockets or ports left.
    #[error("no free socket: {0}")]
    Local(io::Error),
}

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const EADDRNOTAVAIL: i32 = 99;
const ENOBUFS: i32 = 105;

/// Connects.
///
/// # Errors
/// After `limit`, or at once where the pod refuses.
pub async fn connect(dial: &Dial, address: SocketAddr, limit: Duration) -> Result<PodStream, ConnectError> {
    match tokio::time::timeout(limit, dial.dial(address)).await {
        Ok(result) => result.map_err(classify),
        Err(_) => Err(ConnectError::Pod(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} ms", limit.as_millis()),
        ))),
    }
}

fn classify(error: io::Error) -> ConnectError {
    match error.raw_os_error() {
        Some(ENFILE | EMFILE | EADDRNOTAVAIL | ENOBUFS) => ConnectError::Local(error),
        _ => ConnectError::Pod(error),
    }
}
