//! What parked pods mean for a Function's state.

use std::sync::Arc;
use std::time::Instant;

use pilotlight_crds::control::DrainPurpose;
use pilotlight_crds::park::Parking;

use crate::endpoint::ProbeTarget;
use crate::function::endpoints::Asleep;
use crate::wake::Need;

use super::State;

/// What the watch shows of a pod that was asked for its function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is parked.
    Parked(Parking),
    /// It has its function, from this turn on.
    Back(u64),
    /// What was before it was parked: the watch is behind.
    Past,
}

impl<W> State<W> {
    /// What brings the functions of parked pods back, where there are such; at the most as many as wait for one.
    pub(super) fn unpark_need(&self, asleep: &Asleep) -> Option<Need> {
        let each = if self.config.limit > 0 { self.config.limit } else { self.config.target };
        let least = usize::try_from(self.config.wake_replicas).unwrap_or(1).max(1);
        let wanted = self.queue.len().div_ceil(usize::try_from(each.max(1)).unwrap_or(usize::MAX)).max(least);
        let uids: Vec<Arc<str>> = asleep.resting.iter().take(wanted.saturating_sub(asleep.waking)).cloned().collect();
        if !uids.is_empty() {
            return Some(Need::Unpark { uids });
        }
        (asleep.waking > 0).then_some(Need::Look { at: asleep.look_at })
    }

    /// Notes that a parked pod's function is asked for; its name. `None` where nothing is to be done about it.
    pub fn ask(&mut self, now: Instant, uid: &str) -> Option<Arc<str>> {
        let name = self.pod(uid)?.name.clone();
        self.endpoints.ask(now, uid).then_some(name)
    }

    /// How a pod is parked, as far as the watch shows it. `None`: it is gone.
    pub fn shown(&self, uid: &str) -> Option<Shown> {
        let pod = self.pod(uid).filter(|pod| pod.is_live())?;
        Some(match &pod.parking {
            Some(parking) => Shown::Parked(parking.clone()),
            None if self.endpoints.is_behind(uid, pod.turn) => Shown::Past,
            None => Shown::Back(pod.turn),
        })
    }

    /// A pod has its function from this turn on. The caller must probe the endpoints it gets.
    pub fn unparked(&mut self, now: Instant, uid: &str, turn: u64) -> Vec<ProbeTarget> {
        self.endpoints.unparked(uid, turn);
        self.note_patched(now);
        self.refresh(now);
        self.endpoints.to_probe(&self.pods)
    }

    /// Name and uid of the pod, where it answers again and its function was asked for here: it may request what that needs.
    pub fn to_regrow(&mut self, index: usize, id: u64) -> Option<(Arc<str>, Arc<str>)> {
        let uid = self.endpoints.to_regrow(index, id)?;
        Some((self.pod(&uid)?.name.clone(), uid))
    }

    /// Nothing came of asking for a pod's function.
    pub fn ask_again(&mut self, uid: &str) {
        self.endpoints.ask_again(uid);
    }

    /// A pod's function cannot be had.
    pub fn lose(&mut self, uid: &str) {
        self.endpoints.lose(uid);
    }

    /// Nothing that was to park pods and had run out at `asked` can happen any more; these were parked, in these turns.
    pub fn recalled(&mut self, now: Instant, asked: Instant, parked: &[(Arc<str>, u64)]) {
        for (uid, turn) in parked {
            self.endpoints.found_parked(uid, *turn);
        }
        self.fence(asked, DrainPurpose::Park);
        self.refresh(now);
    }
}
