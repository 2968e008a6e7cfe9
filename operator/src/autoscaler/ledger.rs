//! What the autoscaler knows of load: batches become windows of each Function, windows become decisions. Pure; `now` is an argument.
//!
//! What always holds: only Functions that exist are kept, and a batch costs as much as it has Functions with traffic.

use std::collections::{BTreeMap, HashMap};

use pilotlight_crds::control::{FunctionSample, SampleBatch};
use pilotlight_scaling::idle::{Footprint, Prices, Rungs};
use pilotlight_scaling::{
    ActivatorId, Adaptive, Alignment, Coverage, Decision, Floor, Input, Memory, Millis, Origin, Policy, Rung, Sample,
    Second, Span, Windows, decide, is_fresh, look_back,
};

use super::habit::{Activity, Habit};

/// Batches of the past that are kept until the present begins; an activator tells of 60 s.
const PAST: usize = 120;

/// A Function's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FunctionKey {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl FunctionKey {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// Which of a Function's revisions with traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// The one that gets all of it, or the most.
    Main,
    /// Another one, by its name.
    Share(&'a str),
}

/// What a decision needs beside load.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) policy: Policy,
    pub(super) current: u32,
    pub(super) ready: u32,
    pub(super) floor: Option<Floor>,
    /// When the floor changes with time alone.
    pub(super) floor_until: Option<Millis>,
    /// Since when every request passes an activator: what they told of earlier seconds says nothing. `None`: it does not now.
    pub(super) led_since: Option<Millis>,
    /// The rung that the pods are on.
    pub(super) rung: Rung,
    /// The rungs that they can be on.
    pub(super) available: Rungs,
    /// What a replica reserves, where the adaptive policy decides about idle pods.
    pub(super) adaptive: Option<Footprint>,
}

/// Functions that a batch is about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// They had traffic.
    pub(super) sampled: Vec<FunctionKey>,
    /// Something waits in them now.
    pub(super) poked: Vec<FunctionKey>,
}

#[derive(Debug)]
struct Track {
    /// Before this nobody would have told of it.
    begun: Millis,
    windows: Windows,
    memory: Memory,
    /// How long the last wake took that an activator told of.
    start_millis: Option<u64>,
    /// Of a Function that nobody has called there is none.
    habit: Option<Box<Habit>>,
}

impl Track {
    fn begin(now: Millis) -> Self {
        let (windows, memory) = (Windows::default(), Memory::beginning(now));
        Self { begun: now, windows, memory, start_millis: None, habit: None }
    }
}

/// Windows and memories of all Functions, and what is known of each activator's time.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    coverage: Coverage,
    alignments: BTreeMap<ActivatorId, Alignment>,
    tracks: HashMap<FunctionKey, Track>,
    /// Those of further revisions with traffic, where there are any.
    shares: HashMap<FunctionKey, BTreeMap<String, Track>>,
    /// What activators whose stream has just begun told of the past, and when it was heard. Applied as one with their first second of the
    /// present: half of a past would be one that never was.
    pasts: HashMap<ActivatorId, Vec<(Millis, SampleBatch)>>,
    /// When it was told of the first activator.
    begun: Option<Millis>,
    prices: Prices,
}

impl Ledger {
    /// An activator runs.
    pub(super) fn join(&mut self, id: ActivatorId, now: Millis, origin: Origin) {
        self.coverage.join(id, now, origin);
        self.begun.get_or_insert(now);
        self.alignments.entry(id).or_default();
    }

    /// An activator is gone.
    pub(super) fn depart(&mut self, id: ActivatorId, now: Millis) {
        self.coverage.depart(id, now);
        self.alignments.remove(&id);
        self.pasts.remove(&id);
    }

    /// An activator's stream broke.
    pub(super) fn interrupted(&mut self, id: ActivatorId) {
        if let Some(alignment) = self.alignments.get_mut(&id) {
            alignment.interrupted();
        }
        // It will be told again.
        self.pasts.remove(&id);
    }

    /// A batch arrived at `at`. `part` tells what a sample is about; what is about nothing that exists is not kept.
    pub(super) fn hear(
        &mut self,
        id: ActivatorId,
        at: Millis,
        batch: &SampleBatch,
        part: impl for<'s> Fn(&FunctionKey, &'s FunctionSample) -> Option<Part<'s>>,
    ) -> Touched {
        let mut touched = Touched::default();
        if !self.alignments.contains_key(&id) {
            return touched;
        }
        if batch.full {
            self.pasts.insert(id, Vec::new());
        } else if !batch.poke {
            match self.pasts.get_mut(&id) {
                Some(past) if is_past(batch) && past.len() < PAST => {
                    past.push((at, batch.clone()));
                    return touched;
                }
                _ => {
                    for (at, batch) in self.pasts.remove(&id).unwrap_or_default() {
                        self.apply(id, at, &batch, &part, &mut touched);
                    }
                }
            }
        }
        self.apply(id, at, batch, &part, &mut touched);
        touched
    }

    fn apply(
        &mut self,
        id: ActivatorId,
        at: Millis,
        batch: &SampleBatch,
        part: &impl for<'s> Fn(&FunctionKey, &'s FunctionSample) -> Option<Part<'s>>,
        touched: &mut Touched,
    ) {
        let Some(alignment) = self.alignments.get_mut(&id) else {
            return;
        };
        let end = Millis(at.0.saturating_sub(batch.age_millis));
        let partial = batch.poke || batch.full;
        let seconds: Vec<Second> = if partial {
            Vec::new()
        } else if is_past(batch) {
            vec![alignment.replayed(end)]
        } else {
            let seconds = alignment.live(end);
            (seconds.start().0..=seconds.end().0).map(Second).collect()
        };
        for second in &seconds {
            self.coverage.cover(id, *second);
        }
        let moment = alignment.moment(end);
        let fresh = |span: &Span| is_fresh(at, span.until);
        let known_from = self.coverage.span().filter(fresh).map(|span| span.from.start());
        let begun = self.begun.unwrap_or_default();
        for heard in &batch.functions {
            let key = FunctionKey::new(&heard.namespace, &heard.name);
            let Some(part) = part(&key, heard) else { continue };
            let track = track(&mut self.tracks, &mut self.shares, &key, part, at);
            track.start_millis = heard.start_millis.or(track.start_millis);
            let windows = &mut track.windows;
            if partial {
                windows.observe(id, moment, heard.queued, heard.in_flight);
            }
            for second in &seconds {
                windows.record(id, *second, sample(heard));
            }
            if is_active(heard) {
                let habit = track.habit.get_or_insert_default();
                // Before this leader another looked on.
                let last = habit.last().map_or(begun, |last| last.ended.max(begun));
                if known_from.is_none_or(|from| from > last) {
                    habit.blind();
                }
                let live = !is_past(batch) && !batch.full;
                let under_way = partial.then(|| Second::containing(moment));
                for second in seconds.iter().copied().chain(under_way) {
                    habit.active(second, live);
                }
                if let Some(millis) = heard.start_millis.filter(|_| live) {
                    habit.woken(id, millis);
                }
            }
            if heard.queued > 0 && !is_past(batch) {
                touched.poked.push(key);
            } else {
                touched.sampled.push(key);
            }
        }
    }

    /// Decides for one revision of a Function and keeps what the decision hands on.
    pub(super) fn decide(&mut self, key: &FunctionKey, part: Part<'_>, now: Millis, scene: &Scene) -> Decision {
        let track = track(&mut self.tracks, &mut self.shares, key, part, now);
        let stable = scene.policy.stable_seconds();
        let oldest = Second::containing(now).minus(stable.saturating_mul(2));
        track.windows.forget_before(oldest);
        let since = track.memory.awake_since();
        let panic = scene.policy.panic_seconds();
        let load = track.windows.load(&self.coverage, stable, panic, since);
        if scene.adaptive.is_some() && scene.current > 0 {
            track.habit.get_or_insert_default().begin(now);
        }
        let habit = track.habit.as_deref_mut().map(|habit| {
            habit.stands(scene.rung, scene.led_since);
            &*habit
        });
        let adaptive = scene.adaptive.zip(habit).and_then(|(footprint, habit)| {
            let Activity { began, ended } = habit.last()?;
            let (prices, learnt) = (&self.prices, habit.learnt());
            Some(Adaptive { since: ended, began, rung: scene.rung, footprint, prices, learnt })
        });
        // Who has had a share since a moment ago was not silent before: its requests were another's, or nobody's.
        let told_since = scene.led_since.map(|since| if part == Part::Main { since } else { since.max(track.begun) });
        let mut input = Input {
            now,
            policy: &scene.policy,
            load: &load,
            span: told_since.and_then(|since| later(self.coverage.span()?, since)),
            settles_at: scene.led_since,
            current: scene.current,
            ready: scene.ready,
            start_millis: track.start_millis,
            floor: scene.floor.clone(),
            floor_until: scene.floor_until,
            available: scene.available,
            adaptive,
            memory: &track.memory,
        };
        let hindsight = look_back(&input, &track.windows, &self.coverage);
        input.memory = hindsight.as_ref().unwrap_or(&track.memory);
        let decision = decide(&input);
        track.memory = decision.memory.clone();
        decision
    }

    /// What is known of a Function's habit; nothing where nobody has called it.
    pub(super) fn habit(&self, key: &FunctionKey) -> Option<&Habit> {
        self.tracks.get(key)?.habit.as_deref()
    }

    /// Takes over what a leader before knew of a Function's habit.
    pub(super) fn adopt(&mut self, key: &FunctionKey, habit: Habit, now: Millis) {
        let track = self.tracks.entry(key.clone()).or_insert_with(|| Track::begin(now));
        match &mut track.habit {
            Some(known) => known.adopt(habit),
            None => track.habit = Some(Box::new(habit)),
        }
    }

    /// Forgets what was known of further revisions that have no traffic any more.
    pub(super) fn retain_shares(&mut self, key: &FunctionKey, has_some: impl Fn(&str) -> bool) {
        let Some(shares) = self.shares.get_mut(key) else { return };
        shares.retain(|name, _| has_some(name));
        if shares.is_empty() {
            self.shares.remove(key);
        }
    }

    /// Forgets a Function.
    pub(super) fn forget(&mut self, key: &FunctionKey) {
        self.tracks.remove(key);
        self.shares.remove(key);
    }
}

fn track<'t>(
    tracks: &'t mut HashMap<FunctionKey, Track>,
    shares: &'t mut HashMap<FunctionKey, BTreeMap<String, Track>>,
    key: &FunctionKey,
    part: Part<'_>,
    now: Millis,
) -> &'t mut Track {
    match part {
        Part::Main => tracks.entry(key.clone()).or_insert_with(|| Track::begin(now)),
        Part::Share(name) => {
            let shares = shares.entry(key.clone()).or_default();
            shares.entry(name.to_owned()).or_insert_with(|| Track::begin(now))
        }
    }
}

fn is_active(heard: &FunctionSample) -> bool {
    heard.concurrency_milli > 0 || heard.arrivals > 0 || heard.queued > 0 || heard.in_flight > 0
}

/// Whether a batch tells of history rather than of the second that has just ended.
fn is_past(batch: &SampleBatch) -> bool {
    batch.age_millis >= 1000
}

fn sample(heard: &FunctionSample) -> Sample {
    Sample {
        concurrency_milli: heard.concurrency_milli,
        busy_milli: heard.busy_milli,
        arrivals: heard.arrivals,
        completed: heard.completed,
        queued: heard.queued,
        in_flight: heard.in_flight,
    }
}

/// The part of a span that is later than a moment.
fn later(span: Span, since: Millis) -> Option<Span> {
    let from = if since == Millis(0) { span.from } else { span.from.max(Second::containing(since).next()) };
    (from < span.until).then_some(Span { from, until: span.until })
}
