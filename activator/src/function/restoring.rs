//! Throttled pods get their CPU back as soon as a request is at them; the request is on its way meanwhile.
//!
//! What always holds: while a request is at a pod that the watch shows as throttled, one task for that pod asks for its CPU, again and
//! again until it has it or no request is there any more (invariants 2 and 4).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::FunctionCell;
use crate::scale::ScaleError;
use crate::wake::next_retry;

/// Pods, by uid, whose CPU is being asked for.
#[derive(Debug, Default)]
pub(super) struct Restoring(Mutex<HashSet<Arc<str>>>);

impl Restoring {
    /// `true` for the one who has to ask.
    fn begin(&self, uid: &Arc<str>) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.clone())
    }

    fn end(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

impl FunctionCell {
    /// Sees to it that throttled pods with requests get their CPU back.
    pub(super) fn restore_starved(self: &Arc<Self>) {
        let starved: Vec<_> = {
            let state = self.lock();
            let names = state.starved().into_iter().filter_map(|uid| Some((state.pod(&uid)?.name.clone(), uid)));
            names.collect()
        };
        for (name, uid) in starved {
            if self.restoring.begin(&uid) {
                tokio::spawn(restore(self.clone(), name, uid));
            }
        }
    }

    fn is_starved(&self, uid: &str) -> bool {
        self.lock().starved().iter().any(|starved| **starved == *uid)
    }

    /// Nothing that was to throttle pods before `asked` can happen any more.
    pub fn restored(self: &Arc<Self>, asked: Instant) {
        let now = Instant::now();
        self.lock().restored(now, asked);
        self.hand_out(now);
    }
}

async fn restore(cell: Arc<FunctionCell>, pod: Arc<str>, uid: Arc<str>) {
    let (began, mut retry): (_, Option<Duration>) = (Instant::now(), None);
    loop {
        match cell.scale().restore(&cell.key.namespace, &pod, &uid).await {
            Ok(()) => {
                let millis = began.elapsed().as_millis();
                info!(function = %cell.key.name, namespace = %cell.key.namespace, %pod, millis, "gave a throttled pod its CPU back");
                cell.count_restore();
                break;
            }
            Err(ScaleError::NotFound) => break,
            Err(error) => {
                warn!(function = %cell.key.name, namespace = %cell.key.namespace, %pod, %error, "cannot give a throttled pod its CPU back, will try again");
                let pause = next_retry(retry);
                retry = Some(pause);
                tokio::time::sleep(pause).await;
            }
        }
        // Who comes next asks again.
        if !cell.is_starved(&uid) {
            break;
        }
    }
    cell.restoring.end(&uid);
}
