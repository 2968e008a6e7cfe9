//! Which revisions get the traffic.
//!
//! Pure. What always holds: where the author names none, traffic goes to the newest revision that proved itself, and moves there only when
//! enough of its pods are ready for the load that the old one bears, or the wait for them was long enough. What the author says is done at once and as a
//! whole, or traffic stays as it was: never does any go to a revision that has not proved itself while that can be tried.

use jiff::Timestamp;
use pilotlight_crds::FunctionSpec;
use pilotlight_crds::status::{RevisionState, RolloutStatus, RouteMatch, RouteShare, RouteTag};
use std::time::Duration;

use super::Verdict;
use super::rollout::{self, Abort, Seen};

/// How long a ready revision waits for as many ready pods as the old one has.
pub const PROMOTION_PATIENCE: Duration = Duration::from_secs(30);

/// Which revisions get the traffic, and which is being made ready for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// The revision that gets it now, or the largest part of it.
    pub revision: Option<String>,
    /// How it is shared where several get some, `revision` first; else empty.
    pub split: Vec<RouteShare>,
    /// The revisions that have a name of their own: tag and revision.
    pub tags: Vec<(String, String)>,
    /// The requests that go to a revision whatever the shares.
    pub matches: Vec<RouteMatch>,
    /// The rollout under way.
    pub rollout: Option<RolloutStatus>,
    /// The rollout that ends here, where it began.
    pub aborted: Option<Abort>,
    /// The revision that needs pods for it.
    pub promotion: Option<Promotion>,
    /// What became of what the author says.
    pub wish: Option<Wish>,
}

/// A revision that needs pods for the traffic that it will have, or has since a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// Its name.
    pub revision: String,
    /// Pods that it needs.
    pub replicas: u32,
}

/// What became of what the author says in `spec.traffic`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It is so.
    Granted,
    /// This revision has yet to prove itself.
    Proving(String),
    /// This revision did not start, and why.
    Failed(String, Option<String>),
    /// There is none of this name.
    Missing(String),
}

/// What a decision depends on beside the spec.
#[derive(Clone, Copy, Debug)]
pub struct TrafficInput<'a> {
    /// What the revisions have proved, newest first.
    pub verdicts: &'a [Verdict],
    /// The revision that had the traffic, or the largest part of it.
    pub current: Option<&'a str>,
    /// How it was shared, if it was.
    pub split: &'a [RouteShare],
    /// The names that revisions had.
    pub tags: &'a [RouteTag],
    /// The requests that went to a revision whatever the shares.
    pub matches: &'a [RouteMatch],
    /// The rollout that was under way.
    pub rollout: Option<&'a RolloutStatus>,
    /// What was seen of it.
    pub seen: Seen,
    /// Now.
    pub now: Timestamp,
    /// The revision of the last [`Promotion`], if it has not ended, and how long it has lasted.
    pub promoting: Option<(&'a str, Duration)>,
}

impl Traffic {
    /// Decides.
    pub fn decide(spec: &FunctionSpec, input: &TrafficInput<'_>) -> Self {
        let traffic = if spec.names_revisions() { named(spec, input) } else { newest(spec, input) };
        match traffic.wish {
            None | Some(Wish::Granted) => traffic.addressed(spec, input),
            Some(_) => traffic.still_addressed(input),
        }
    }

    /// A revision's part, of a hundred requests.
    pub fn percent(&self, revision: &str) -> u32 {
        match self.split.iter().find(|share| share.revision == revision) {
            Some(share) => share.percent,
            None if self.split.is_empty() && self.revision.as_deref() == Some(revision) => 100,
            None => 0,
        }
    }

    /// With the tags and matches that the author says.
    fn addressed(mut self, spec: &FunctionSpec, input: &TrafficInput<'_>) -> Self {
        let latest = newest_proved(spec, input).map(|latest| latest.name.as_str());
        for target in &spec.traffic {
            let Some(revision) = target.revision_name.as_deref().or(latest) else { continue };
            self.tags.extend(target.tag.iter().map(|tag| (tag.clone(), revision.to_owned())));
            if !target.matches.is_empty() {
                self.matches.push(RouteMatch { revision: revision.to_owned(), matches: target.matches.clone() });
            }
        }
        self
    }

    /// With those that there were, as long as there are such revisions.
    fn still_addressed(mut self, input: &TrafficInput<'_>) -> Self {
        let tags = input.tags.iter().filter(|tag| input.has(&tag.revision));
        self.tags = tags.map(|tag| (tag.tag.clone(), tag.revision.clone())).collect();
        self.matches = input.matches.iter().filter(|rule| input.has(&rule.revision)).cloned().collect();
        self
    }
}

fn newest(spec: &FunctionSpec, input: &TrafficInput<'_>) -> Traffic {
    let Some(next) = newest_proved(spec, input) else { return Traffic::default() };
    if let Some(traffic) = rollout::returns(input, next).or_else(|| rollout::steps(spec, input, next)) {
        return traffic;
    }
    let settled = Traffic { revision: Some(next.name.clone()), ..Traffic::default() };
    let Some(old) = input.current_but(&next.name) else {
        return Traffic { promotion: taking_over(spec, next, input), ..settled };
    };
    let needed = ready(old).min(spec.scaling.max_replicas);
    if next.state != RevisionState::Ready || ready(next) >= needed || input.waited(&next.name) >= PROMOTION_PATIENCE {
        return settled;
    }
    let promotion = Some(Promotion { revision: next.name.clone(), replicas: needed });
    Traffic { promotion, ..as_it_is(spec, input) }
}

/// The newest revision that may have traffic. Nothing tries one that starts with no pod but a request: it gets the requests at once.
fn newest_proved<'a>(spec: &FunctionSpec, input: &TrafficInput<'a>) -> Option<&'a Verdict> {
    let eligible = |v: &&Verdict| {
        v.state == RevisionState::Ready || (v.state == RevisionState::Pending && spec.scaling.initial_replicas == 0)
    };
    input.verdicts.iter().find(eligible).or(input.verdicts.first())
}

fn named(spec: &FunctionSpec, input: &TrafficInput<'_>) -> Traffic {
    let mut split: Vec<RouteShare> = Vec::new();
    for target in &spec.traffic {
        let percent = target.percent.unwrap_or(if spec.traffic.len() == 1 { 100 } else { 0 });
        let is_addressed = target.tag.is_some() || !target.matches.is_empty();
        let chosen = match &target.revision_name {
            _ if percent == 0 && !is_addressed => continue,
            None => newest_proved(spec, input),
            Some(name) => match chosen(spec, name, input) {
                Ok(chosen) => Some(chosen),
                Err(kept) => return *kept,
            },
        };
        let Some(chosen) = chosen.filter(|_| percent > 0) else { continue };
        match split.iter_mut().find(|share| share.revision == chosen.name) {
            Some(share) => share.percent += percent,
            None => split.push(RouteShare { revision: chosen.name.clone(), percent }),
        }
    }
    // Among equals the one that has it already: what is known of its load goes on.
    split.sort_by_key(|share| {
        (std::cmp::Reverse(share.percent), input.current != Some(share.revision.as_str()), share.revision.clone())
    });
    let Some(first) = split.first().map(|share| share.revision.clone()) else { return newest(spec, input) };
    let alone = split.len() == 1;
    Traffic {
        promotion: input.verdicts.iter().find(|v| alone && v.name == first).and_then(|v| taking_over(spec, v, input)),
        revision: Some(first),
        split: if alone { Vec::new() } else { split },
        wish: Some(Wish::Granted),
        ..Traffic::default()
    }
}

/// The revision of this name, if it may have traffic; else what happens instead.
fn chosen<'a>(spec: &FunctionSpec, name: &str, input: &TrafficInput<'a>) -> Result<&'a Verdict, Box<Traffic>> {
    let stays = |wish: Wish| Traffic { wish: Some(wish), ..as_it_is(spec, input) };
    let Some(chosen) = input.verdicts.iter().find(|v| v.name == name) else {
        return Err(Box::new(stays(Wish::Missing(name.to_owned()))));
    };
    let has_some = input.current == Some(name)
        || input.split.iter().any(|share| share.revision == name)
        || input.tags.iter().any(|tag| tag.revision == name)
        || input.matches.iter().any(|rule| rule.revision == name);
    let replicas = spec.scaling.initial_replicas;
    match chosen.state {
        // It starts; that the author wants it all the same, he knows.
        RevisionState::Failed if !has_some && !chosen.is_aborted() => {
            Err(Box::new(stays(Wish::Failed(name.to_owned(), chosen.reason.clone()))))
        }
        RevisionState::Pending if !has_some && replicas > 0 => {
            let promotion = Some(Promotion { revision: name.to_owned(), replicas });
            Err(Box::new(Traffic { promotion, ..stays(Wish::Proving(name.to_owned())) }))
        }
        _ => Ok(chosen),
    }
}

/// Where the traffic is, as long as there are such revisions.
fn as_it_is(spec: &FunctionSpec, input: &TrafficInput<'_>) -> Traffic {
    let Some(current) = input.current.filter(|current| input.has(current)) else {
        let next = newest_proved(spec, input).map(|next| next.name.clone());
        return Traffic { revision: next, ..Traffic::default() };
    };
    let whole = input.split.iter().all(|share| input.has(&share.revision));
    let split = if whole { input.split.to_vec() } else { Vec::new() };
    Traffic { revision: Some(current.to_owned()), split, ..Traffic::default() }
}

/// What a revision that has all the traffic since a moment ago needs, for the load that others bore until then.
fn taking_over(spec: &FunctionSpec, chosen: &Verdict, input: &TrafficInput<'_>) -> Option<Promotion> {
    let begins = input.current_but(&chosen.name).is_some() || !input.split.is_empty();
    let goes_on = input.promoting.is_some_and(|(name, _)| name == chosen.name);
    if !(begins || goes_on) || input.waited(&chosen.name) >= PROMOTION_PATIENCE {
        return None;
    }
    let others = input.verdicts.iter().filter(|v| v.name != chosen.name);
    let needed = others.map(ready).max().unwrap_or(0).min(spec.scaling.max_replicas);
    (ready(chosen) < needed).then(|| Promotion { revision: chosen.name.clone(), replicas: needed })
}

pub(super) fn ready(verdict: &Verdict) -> u32 {
    u32::try_from(verdict.evidence.ready).unwrap_or(0)
}

impl TrafficInput<'_> {
    /// The revision that had the traffic, if it is another one.
    fn current_but(&self, name: &str) -> Option<&Verdict> {
        self.verdicts.iter().find(|v| Some(v.name.as_str()) == self.current && v.name != name)
    }

    /// Whether there is a revision of this name.
    fn has(&self, name: &str) -> bool {
        self.verdicts.iter().any(|v| v.name == name)
    }

    /// For how long the revision has been getting pods.
    pub(super) fn waited(&self, name: &str) -> Duration {
        self.promoting.filter(|(promoted, _)| *promoted == name).map_or(Duration::ZERO, |(_, waited)| waited)
    }
}
