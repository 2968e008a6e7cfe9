//! The control token at hand, so that marking a request reads no file. It is read anew now and then; the one before is believed for
//! as long, because a rotated Secret does not reach all activators at once.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, info};

use super::mark::Mark;
use crate::control::Token;

const REFRESH: Duration = Duration::from_secs(10);

/// The control token, and the one before. By default there is none.
#[derive(Default)]
pub struct Keys {
    source: Token,
    known: ArcSwap<Known>,
}

#[derive(Clone, Default)]
struct Known {
    current: Option<Arc<str>>,
    before: Option<Arc<str>>,
}

impl Keys {
    /// Reads the token.
    pub fn load(source: Token) -> Self {
        let keys = Self { source, known: ArcSwap::default() };
        keys.take(read(&keys.source));
        keys
    }

    /// Reads the token anew, for ever.
    pub async fn follow(self: Arc<Self>) {
        let Token::File(path) = &self.source else { return };
        loop {
            tokio::time::sleep(REFRESH).await;
            match tokio::fs::read_to_string(path).await {
                Ok(token) => self.take(Some(token)),
                Err(error) => error!(%error, path = %path.display(), "cannot read --control-token-file"),
            }
        }
    }

    fn take(&self, token: Option<String>) {
        let token: Option<Arc<str>> = token.map(|t| t.trim().into()).filter(|t: &Arc<str>| !t.is_empty());
        let known = self.known.load();
        if token.is_none() || token == known.current {
            return;
        }
        if known.current.is_some() {
            info!("the control token was rotated");
        }
        self.known.store(Arc::new(Known { current: token, before: known.current.clone() }));
    }

    /// The token.
    pub fn current(&self) -> Option<Arc<str>> {
        self.known.load().current.clone()
    }

    /// Whether one who knows the token made the mark.
    pub fn verify(&self, mark: &Mark) -> bool {
        let known = self.known.load();
        [&known.current, &known.before].into_iter().flatten().any(|key| mark.is_by(key))
    }
}

fn read(source: &Token) -> Option<String> {
    match source {
        Token::Fixed(token) => Some(token.clone()),
        Token::Missing => None,
        Token::File(path) => std::fs::read_to_string(path)
            .inspect_err(|error| error!(%error, path = %path.display(), "cannot read --control-token-file"))
            .ok(),
    }
}
