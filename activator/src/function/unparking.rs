//! Parked pods get their function back as soon as a request waits for it.
//!
//! What always holds: the function's image is put back only once nothing is left of the process that was stopped for the placeholder, so that
//! whoever answers afterwards is a process that nobody stops; and only in the very version that was looked at. Where that cannot be, the pod counts
//! as lost and another one is asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotlight_crds::park::Parking;
use tracing::{info, warn};

use super::FunctionCell;
use super::state::Shown;
use crate::endpoint::placeholder::{self, Answer};
use crate::endpoint::schedule::Schedule;
use crate::index::{FunctionKey, PodView};
use crate::scale::ScaleError;

/// How long the process that was told to end may take to do so, before another pod is asked for.
const PATIENCE: Duration = Duration::from_millis(2_500);

impl FunctionCell {
    /// Sees to it that these pods get their function back.
    pub fn unpark(self: &Arc<Self>, uids: &[Arc<str>]) {
        for uid in uids {
            let name = self.lock().ask(Instant::now(), uid);
            if let Some(name) = name {
                tokio::spawn(unpark(self.clone(), name, uid.clone()));
            }
        }
    }

    /// Lets a pod request again what its function needs, where that was asked for here. Only once it answers: kubelet looks at it in a second
    /// at the earliest, and what the API server has to do for it meanwhile would be done at the cost of the start. Nobody waits for it, and what fails
    /// the operator does.
    pub(super) fn regrow(self: &Arc<Self>, index: usize, id: u64) {
        let Some((pod, uid)) = self.lock().to_regrow(index, id) else { return };
        let cell = self.clone();
        tokio::spawn(async move {
            let FunctionKey { namespace, name } = &cell.key;
            if let Err(error) = cell.scale().regrow(namespace, &pod, &uid).await {
                warn!(function = %name, %namespace, %pod, %error, "an un-parked pod requests less than it should, until the operator gives it back");
            }
        });
    }

    /// Makes sure that no hand-shake about parking that has run out can come true any more.
    ///
    /// # Errors
    /// Those of the API server; then nothing is known.
    pub async fn recall(self: &Arc<Self>, pods: &[Arc<PodView>]) -> Result<(), ScaleError> {
        let asked = Instant::now();
        let mut parked = Vec::new();
        for pod in pods {
            let found = match self.scale().parking(&self.key.namespace, &pod.name).await {
                Ok(found) => found.filter(|parking| *parking.uid == *pod.uid),
                Err(ScaleError::NotFound) => None,
                Err(error) => return Err(error),
            };
            match found {
                Some(parking) if parking.swapped => parked.push((pod.uid.clone(), parking.turn)),
                // A mark alone: without it the swap that may be on its way fails.
                Some(parking) => self.scale().unpark(&self.key.namespace, &pod.name, &parking).await?,
                None => {}
            }
        }
        info!(function = %self.key.name, namespace = %self.key.namespace, pods = pods.len(), "fenced a parking that was never released");
        let now = Instant::now();
        self.lock().recalled(now, asked, &parked);
        self.hand_out(now);
        Ok(())
    }
}

/// How an attempt ended.
enum Outcome {
    /// The pod has its function from this turn on.
    Back(u64),
    /// It cannot be had.
    Lost(String),
    /// The API server does not answer: nothing is known.
    Later,
}

async fn unpark(cell: Arc<FunctionCell>, name: Arc<str>, uid: Arc<str>) {
    let began = Instant::now();
    match attempt(&cell, &name, &uid, began).await {
        Outcome::Back(turn) => {
            let millis = began.elapsed().as_millis();
            info!(function = %cell.key.name, namespace = %cell.key.namespace, pod = %name, millis, "gave a parked pod its function back");
            cell.metrics().balance.unparks.inc();
            let targets = cell.lock().unparked(Instant::now(), &uid, turn);
            cell.probe(targets);
        }
        Outcome::Lost(why) => {
            warn!(function = %cell.key.name, namespace = %cell.key.namespace, pod = %name, error = why, "a parked pod cannot have its function back, another is asked for");
            cell.metrics().balance.lost.inc();
            cell.lock().lose(&uid);
        }
        Outcome::Later => cell.lock().ask_again(&uid),
    }
    cell.wake_changed.notify_one();
}

async fn attempt(cell: &Arc<FunctionCell>, name: &str, uid: &str, began: Instant) -> Outcome {
    let mut schedule = Schedule::default();
    let mut fresh: Option<Parking> = None;
    let mut down = false;
    while began.elapsed() < PATIENCE {
        let shown = fresh.take().map(Shown::Parked).or_else(|| cell.lock().shown(uid));
        let parking = match shown {
            Some(Shown::Parked(parking)) => parking,
            Some(Shown::Back(turn)) => return Outcome::Back(turn),
            Some(Shown::Past) => {
                fresh = read(cell, name, uid).await;
                if fresh.is_none() {
                    tokio::time::sleep(schedule.next_pause()).await;
                }
                continue;
            }
            None => return Outcome::Lost("the pod is gone".to_owned()),
        };
        if parking.swapped && !parking.placeholder_runs && !cell.meets_placeholder(uid).await {
            tokio::time::sleep(schedule.next_pause()).await;
            continue;
        }
        match cell.scale().unpark(&cell.key.namespace, name, &parking).await {
            Ok(()) => return Outcome::Back(parking.turn_after()),
            Err(ScaleError::Conflict) => {}
            Err(error @ (ScaleError::Refused(_) | ScaleError::NotFound)) => return Outcome::Lost(error.to_string()),
            Err(error) => {
                warn!(function = %cell.key.name, namespace = %cell.key.namespace, pod = name, %error, "cannot give a parked pod its function back, will try again");
                down = true;
                tokio::time::sleep(schedule.next_pause().max(Duration::from_millis(50))).await;
                continue;
            }
        }
        fresh = read(cell, name, uid).await;
        if fresh.is_none() {
            tokio::time::sleep(schedule.next_pause()).await;
        }
    }
    if down {
        return Outcome::Later;
    }
    Outcome::Lost("its function has not ended yet, or no placeholder runs there".to_owned())
}

/// How the pod is parked, by the API server. `None` where it is not, because somebody else was faster: the watch will show it.
async fn read(cell: &FunctionCell, name: &str, uid: &str) -> Option<Parking> {
    let found = cell.scale().parking(&cell.key.namespace, name).await;
    found.ok().flatten().filter(|parking| *parking.uid == *uid)
}

impl FunctionCell {
    /// Whether the pod itself says that a placeholder runs in it.
    async fn meets_placeholder(&self, uid: &str) -> bool {
        let address = self.lock().pod(uid).and_then(|pod| pod.address);
        match address {
            Some(address) => placeholder::ask(&self.shared.dial, address.ip()).await == Answer::Placeholder,
            None => false,
        }
    }
}
