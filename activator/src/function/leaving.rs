//! Whether clients that a Function's Service led here belong elsewhere now: a connection outlasts the endpoints that it was made by, so once
//! the Function's EndpointSlice leads here no more, whoever still comes by an old connection is asked to make another.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// What the Function's EndpointSlice said last. Nothing said is no reason to send anybody away.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    led: bool,
    token: Option<CancellationToken>,
}

impl Leaving {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the slice leads here now.
    pub(super) fn led(&self, here: bool) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.led, here)
            && !here
            && let Some(token) = inner.token.take()
        {
            token.cancel();
        }
    }

    /// What a connection that begins now goes by: cancelled once its client has to be asked to connect anew; with `draining`, too.
    pub(super) fn token(&self, draining: &CancellationToken) -> CancellationToken {
        self.lock().token.get_or_insert_with(|| draining.child_token()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_from_before_the_slice_left_are_ended() {
        let (leaving, draining) = (Leaving::default(), CancellationToken::new());
        let unknown = leaving.token(&draining);
        leaving.led(false);
        assert!(!unknown.is_cancelled(), "it was never known to lead here");
        leaving.led(true);
        let old = leaving.token(&draining);
        leaving.led(true);
        assert!(!old.is_cancelled());
        leaving.led(false);
        let new = leaving.token(&draining);
        assert!(unknown.is_cancelled() && old.is_cancelled() && !new.is_cancelled());
        draining.cancel();
        assert!(new.is_cancelled());
    }
}
