//! Which revision gets the traffic.
//!
//! Pure. What always holds: traffic goes to the newest revision that proved itself, and moves there only when enough of its
//! pods are ready for the load that the old one bears, or the wait for them was long enough. Where the author names a revision it goes there at once,
//! but never to one that has not proved itself while that can be tried.

use pilotlight_crds::FunctionSpec;
use pilotlight_crds::status::RevisionState;
use std::time::Duration;

use super::Verdict;

/// How long a ready revision waits for as many ready pods as the old one has.
pub const PROMOTION_PATIENCE: Duration = Duration::from_secs(30);

/// Which revision gets the traffic, and which is being made ready for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The revision that gets it now.
    pub revision: Option<String>,
    /// The revision that needs pods for it.
    pub promotion: Option<Promotion>,
    /// What became of the revision that the author names.
    pub pin: Option<Pin>,
}

/// A revision that needs pods for the traffic that it will have, or has since a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// Its name.
    pub revision: String,
    /// Pods that it needs.
    pub replicas: u32,
}

/// What became of the revision that the author names in `spec.traffic`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// It has the traffic.
    Held(String),
    /// It has yet to prove itself.
    Proving(String),
    /// It did not start, and why.
    Failed(String, Option<String>),
    /// There is none of that name.
    Missing(String),
}

/// What a decision depends on beside the spec.
#[derive(Clone, Copy, Debug)]
pub struct TrafficInput<'a> {
    /// What the revisions have proved, newest first.
    pub verdicts: &'a [Verdict],
    /// The revision that had the traffic.
    pub current: Option<&'a str>,
    /// The revision of the last [`Promotion`], if it has not ended, and how long it has lasted.
    pub promoting: Option<(&'a str, Duration)>,
}

impl Traffic {
    /// Decides.
    pub fn decide(spec: &FunctionSpec, input: &TrafficInput<'_>) -> Self {
        match spec.pinned_revision() {
            Some(name) => pinned(spec, name, input),
            None => newest(spec, input),
        }
    }
}

fn newest(spec: &FunctionSpec, input: &TrafficInput<'_>) -> Traffic {
    // Nothing tries a revision that starts with no pod but a request: it gets the requests at once.
    let eligible = |v: &&Verdict| {
        v.state == RevisionState::Ready || (v.state == RevisionState::Pending && spec.scaling.initial_replicas == 0)
    };
    let Some(next) = input.verdicts.iter().find(eligible).or(input.verdicts.first()) else {
        return Traffic::default();
    };
    let settled = Traffic { revision: Some(next.name.clone()), ..Traffic::default() };
    let Some(old) = input.current_but(&next.name) else { return settled };
    let needed = ready(old).min(spec.scaling.max_replicas);
    if next.state != RevisionState::Ready || ready(next) >= needed || input.waited(&next.name) >= PROMOTION_PATIENCE {
        return settled;
    }
    Traffic {
        revision: Some(old.name.clone()),
        promotion: Some(Promotion { revision: next.name.clone(), replicas: needed }),
        pin: None,
    }
}

fn pinned(spec: &FunctionSpec, name: &str, input: &TrafficInput<'_>) -> Traffic {
    let name = name.to_owned();
    let Some(chosen) = input.verdicts.iter().find(|v| v.name == name) else {
        return Traffic { pin: Some(Pin::Missing(name)), ..as_it_is(spec, input) };
    };
    let has_it = input.current == Some(chosen.name.as_str());
    match chosen.state {
        RevisionState::Failed if !has_it => {
            Traffic { pin: Some(Pin::Failed(name, chosen.reason.clone())), ..as_it_is(spec, input) }
        }
        RevisionState::Pending if !has_it && spec.scaling.initial_replicas > 0 => {
            let replicas = spec.scaling.initial_replicas;
            Traffic {
                promotion: Some(Promotion { revision: name.clone(), replicas }),
                pin: Some(Pin::Proving(name)),
                ..as_it_is(spec, input)
            }
        }
        _ => {
            Traffic { promotion: beside(spec, chosen, input), revision: Some(name.clone()), pin: Some(Pin::Held(name)) }
        }
    }
}

/// Where the traffic is, as long as there is such a revision.
fn as_it_is(spec: &FunctionSpec, input: &TrafficInput<'_>) -> Traffic {
    match input.verdicts.iter().find(|v| Some(v.name.as_str()) == input.current) {
        Some(current) => Traffic { revision: Some(current.name.clone()), ..Traffic::default() },
        None => newest(spec, input),
    }
}

/// What a revision that has the traffic since a moment ago needs, for the load that others bore until then.
fn beside(spec: &FunctionSpec, chosen: &Verdict, input: &TrafficInput<'_>) -> Option<Promotion> {
    let begins = input.current_but(&chosen.name).is_some();
    let goes_on = input.promoting.is_some_and(|(name, _)| name == chosen.name);
    if !(begins || goes_on) || input.waited(&chosen.name) >= PROMOTION_PATIENCE {
        return None;
    }
    let others = input.verdicts.iter().filter(|v| v.name != chosen.name);
    let needed = others.map(ready).max().unwrap_or(0).min(spec.scaling.max_replicas);
    (ready(chosen) < needed).then(|| Promotion { revision: chosen.name.clone(), replicas: needed })
}

fn ready(verdict: &Verdict) -> u32 {
    u32::try_from(verdict.evidence.ready).unwrap_or(0)
}

impl TrafficInput<'_> {
    /// The revision that had the traffic, if it is another one.
    fn current_but(&self, name: &str) -> Option<&Verdict> {
        self.verdicts.iter().find(|v| Some(v.name.as_str()) == self.current && v.name != name)
    }

    /// For how long the revision has been getting pods.
    fn waited(&self, name: &str) -> Duration {
        self.promoting.filter(|(promoted, _)| *promoted == name).map_or(Duration::ZERO, |(_, waited)| waited)
    }
}
