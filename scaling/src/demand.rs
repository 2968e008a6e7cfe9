//! How many replicas load asks for, before rates, holds and bounds.
//!
//! Load is the *offered load*: what concurrency would be if nobody had to wait, by Little's law (L = λ·W; J. D. C. Little, 1961). A
//! backlog is not demand that lasts: it is worked off once, and counting it as concurrency starts pods that have nothing to do when they
//! are ready. Where it is not known yet how long a request lasts, a request that waits counts like one in flight. A rate needs no such care:
//! arrivals are the offered load.
//!
//! What always holds: more load lately never asks for less; what is in flight always counts.

use crate::decide::Input;
use crate::load::{Average, Load, Service, Window};
use crate::memory::Memory;
use crate::policy::{Metric, Target};
use crate::reason::Cause;

/// Milliseconds that a start is taken to need where none was measured.
const START_MILLIS: u64 = 2_000;
/// Milliseconds that a start is taken to need at least.
const SHORTEST_START_MILLIS: u64 = 500;
/// Milliseconds in which what still waits when new pods are ready is to be worked off, at most.
const WORK_OFF_MILLIS: u64 = 1_000;

/// What load asks for.
pub(crate) struct Demand {
    pub(crate) replicas: u32,
    /// `None`: there is no load.
    pub(crate) cause: Option<Cause>,
    /// What the load of the last few seconds alone asks for.
    pub(crate) peak: u32,
    /// What the panic window asks for: nothing is removed below it.
    pub(crate) lately: Option<(u32, Cause)>,
}

impl Demand {
    fn raise(&mut self, replicas: u32, cause: Option<Cause>) {
        if replicas > self.replicas {
            self.replicas = replicas;
            self.cause = cause;
        }
    }

    fn raise_lately(&mut self, replicas: u32, cause: Option<Cause>) {
        self.peak = self.peak.max(replicas);
        self.raise(replicas, cause);
    }
}

/// The load of both windows by one metric.
struct Measured {
    target: Target,
    stable: Option<Average>,
    lately: Option<Average>,
}

/// What load asks for, and whether it is a panic, noted in `memory`.
pub(crate) fn demand(input: &Input<'_>, memory: &mut Memory) -> Demand {
    let (policy, load) = (input.policy, input.load);
    memory.service = load.stable.and_then(|window| window.service()).or(memory.service);
    let service = memory.service;
    let measured: Vec<Measured> = policy
        .targets()
        .map(|target| Measured {
            target,
            stable: load.stable.map(|window| average(&window, target.metric, service)),
            lately: load.panic.map(|window| average(&window, target.metric, service)),
        })
        .collect();
    let burst = burst(&measured);
    let queue = queue(input, service);
    panic(input, memory, burst.map_or(0, |(pods, ..)| pods).max(queue));

    let lately = burst.map(|(pods, average, target_milli)| (pods, Cause::Lately { average, target_milli }));
    let mut demand = Demand { replicas: 0, cause: None, peak: 0, lately };
    for Measured { target, stable, lately } in &measured {
        if let Some(average) = *stable {
            let target_milli = target.milli;
            demand.raise(pods(average, target_milli), Some(Cause::Stable { average, target_milli }));
        }
        if let (Some(stable), Some(average)) = (*stable, *lately) {
            let (ahead, start_millis) = ahead(input, stable, average);
            let target_milli = target.filled_milli;
            let cause = Cause::Rising { average, ahead, start_millis, target_milli };
            demand.raise_lately(pods(ahead, target_milli), Some(cause));
        }
    }
    if let (Some(_), Some((pods, average, target_milli))) = (memory.panic_until, burst) {
        demand.raise_lately(pods, Some(Cause::Panic { average, target_milli }));
    }
    let Load { queued, in_flight, .. } = *load;
    demand.raise(queue, Some(Cause::Queue { queued, in_flight, slots: policy.slots() }));
    demand
}

fn average(window: &Window, metric: Metric, service: Option<Service>) -> Average {
    match metric {
        Metric::Concurrency => window.offered(service),
        Metric::Rps => window.rate(),
    }
}

/// What the panic window asks for: pods, the average that asks for most of them, and what one pod should have of it.
fn burst(measured: &[Measured]) -> Option<(u32, Average, u64)> {
    let all = measured.iter().filter_map(|measured| {
        let (average, milli) = (measured.lately?, measured.target.milli);
        Some((pods(average, milli), average, milli))
    });
    all.max_by_key(|(pods, ..)| *pods)
}

/// Begins, prolongs or ends panic.
fn panic(input: &Input<'_>, memory: &mut Memory, surge: u32) {
    let ready = input.ready.max(1);
    let threshold = u64::from(ready) * u64::from(input.policy.panic_threshold_percent);
    if surge > ready && u64::from(surge) * 100 >= threshold {
        memory.panic_until = Some(input.now.plus_seconds(input.policy.panic_hold_seconds()));
    } else {
        memory.panic_until = memory.panic_until.filter(|until| *until > input.now);
    }
}

/// The load of the panic window, and where it rises what it will be when a pod that is asked for now has started: the line through the
/// middles of both windows, drawn on. Starts longer than the stable window are not looked so far ahead.
fn ahead(input: &Input<'_>, stable: Average, lately: Average) -> (Average, u64) {
    let policy = input.policy;
    let start = start_millis(input).min(policy.stable_seconds() * 1000);
    let apart = (policy.stable_seconds() - policy.panic_seconds()) * 500;
    let rise = lately.milli().saturating_sub(stable.milli());
    let more = (u128::from(rise) * u128::from(start)).checked_div(u128::from(apart)).unwrap_or(0);
    let more = u64::try_from(more).unwrap_or(u64::MAX).saturating_mul(lately.seconds);
    (Average { sum_milli: lately.sum_milli.saturating_add(more), ..lately }, start)
}

fn start_millis(input: &Input<'_>) -> u64 {
    input.start_millis.unwrap_or(START_MILLIS).max(SHORTEST_START_MILLIS)
}

/// What those who wait ask for. A pod that is asked for now helps nobody before it has started; so only what will still wait then, at the
/// rate at which the ready pods work it off, is demand. Where it is not known how long a request lasts, each needs a slot of its own;
/// it never needs more than that.
fn queue(input: &Input<'_>, service: Option<Service>) -> u32 {
    let (load, slots) = (input.load, u64::from(input.policy.slots()));
    if load.queued == 0 {
        return 0;
    }
    let one_each = saturating(u128::from((load.queued + load.in_flight).div_ceil(slots)));
    let Some(service) = service else { return one_each };
    let start = start_millis(input);
    let lately = load.panic.unwrap_or_default();
    let arriving = lately.arrivals.saturating_mul(start).div_ceil(lately.seconds.max(1) * 1000);
    // All in slot-milliseconds.
    let work = service.millis_of(load.queued.saturating_add(arriving));
    let capacity = u64::from(input.ready).saturating_mul(slots).saturating_mul(start);
    let left = u128::from(work.saturating_sub(capacity));
    if left == 0 {
        return 0;
    }
    let steady = u128::from(service.millis_of(arriving));
    let (start, within) = (u128::from(start), u128::from(start.min(WORK_OFF_MILLIS)));
    let pods = (steady * within + left * start).div_ceil(u128::from(slots) * start * within);
    saturating(pods).min(one_each)
}

/// Pods for an average concurrency, rounded up, computed exactly.
fn pods(average: Average, target_milli: u64) -> u32 {
    let one_pod = u128::from(average.seconds.max(1)) * u128::from(target_milli.max(1));
    saturating(u128::from(average.sum_milli).div_ceil(one_pod))
}

fn saturating(pods: u128) -> u32 {
    u32::try_from(pods).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::Rungs;
    use crate::policy::Policy;
    use crate::time::Millis;

    fn waiting(queued: u64, ready: u32, start_millis: u64, service: Option<Service>) -> u32 {
        let policy = Policy { concurrency_limit: 10, ..Policy::default() };
        let panic = Some(Window { seconds: 6, arrivals: 600, ..Window::default() });
        let load = Load { queued, in_flight: u64::from(ready) * 10, panic, ..Load::default() };
        let input = Input {
            now: Millis(100_000),
            policy: &policy,
            load: &load,
            span: None,
            settles_at: None,
            current: ready,
            ready,
            start_millis: Some(start_millis),
            floor: None,
            floor_until: None,
            available: Rungs::ALL,
            adaptive: None,
            memory: &Memory::default(),
        };
        queue(&input, service)
    }

    /// 100 arrivals a second; what each lasts, in ms.
    fn lasting(millis: u64) -> Option<Service> {
        Some(Service { busy_milli: millis, completed: 1 })
    }

    #[test]
    fn each_that_waits_needs_a_slot_where_nothing_is_known() {
        assert_eq!(waiting(0, 2, 1000, None), 0);
        assert_eq!(waiting(1, 2, 1000, None), 3);
        assert_eq!(waiting(95, 2, 1000, None), 12);
    }

    #[test]
    fn a_short_queue_is_gone_before_a_pod_could_help() {
        // 2 pods answer 200 a second: in the second of a start they work off 100 that come and 100 that wait.
        assert_eq!(waiting(100, 2, 1000, lasting(100)), 0);
        // 300 would be left after it: 10 slots for those that come, and 30 for those left, within a second.
        assert_eq!(waiting(400, 2, 1000, lasting(100)), 4);
        // 30 slots for those that come, and 30 for the 30 s of work that are left.
        assert_eq!(waiting(100, 3, 1000, lasting(300)), 6);
    }

    #[test]
    fn never_more_than_a_slot_for_each() {
        assert_eq!(waiting(40, 2, 1000, lasting(60_000)), 6);
    }

    #[test]
    fn a_rise_is_drawn_on_by_the_time_of_a_start() {
        let policy = Policy::default();
        let load = Load::default();
        let memory = Memory::default();
        let mut input = Input {
            now: Millis(100_000),
            policy: &policy,
            load: &load,
            span: None,
            settles_at: None,
            current: 1,
            ready: 1,
            start_millis: Some(27_000),
            floor: None,
            floor_until: None,
            available: Rungs::ALL,
            adaptive: None,
            memory: &memory,
        };
        let average = |milli: u64| Average { metric: Metric::Concurrency, sum_milli: milli * 6, seconds: 6 };
        // The middles of 60 s and 6 s lie 27 s apart.
        assert_eq!(ahead(&input, average(10_000), average(30_000)).0.milli(), 50_000);
        assert_eq!(ahead(&input, average(30_000), average(10_000)).0.milli(), 10_000);
        input.start_millis = Some(1_000_000);
        assert_eq!(ahead(&input, average(10_000), average(30_000)).1, 60_000, "no further than the stable window");
        let whole = Policy { panic_window_percent: 100, ..Policy::default() };
        input.policy = &whole;
        assert_eq!(ahead(&input, average(10_000), average(30_000)).0.milli(), 30_000, "no line through one point");
    }
}
