//! The simulated Function: requests arrive, wait for a slot, are served; pods start and end. A discrete-event simulation whose only
//! randomness is drawn before it begins, so that every autoscaler meets exactly the same requests and start times.
//!
//! What always holds: time never goes back; a pod never has more requests than slots; a pod that is taken away finishes what it has, and
//! costs until then.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::scaler::{Observation, Scaler, Second};

/// Microseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000;
/// Microseconds between two decisions that requests without a slot ask for at once, as in the operator.
const POKE: u64 = 50_000;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// When it arrives, in µs.
    pub(crate) at: u64,
    /// How long a pod works on it, in µs.
    pub(crate) service: u64,
}

/// All that an autoscaler cannot choose.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Ascending in time.
    pub(crate) requests: Vec<Request>,
    /// Start times in µs, used one after the other.
    pub(crate) starts: Vec<u64>,
    /// Requests that one pod can have at once.
    pub(crate) slots: u32,
    /// When the simulation ends, in µs.
    pub(crate) end: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Time that pods existed, starting and ending ones included, in µs.
    pub(crate) replica_micros: u64,
    /// How long each request waited for a slot, in µs.
    pub(crate) waits: Vec<u64>,
    /// How often the number of replicas was changed.
    pub(crate) changes: u64,
    /// Replicas asked for, at each change, for the plot.
    pub(crate) replicas: Vec<(u64, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Completed { pod: usize },
    Started { pod: usize },
    Arrived { request: usize },
    SecondOver,
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    Draining,
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Pod {
    phase: Phase,
    in_flight: u32,
    born: u64,
}

/// Time-weighted concurrency of the second under way.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    at: u64,
    sum: u64,
    busy: u64,
    arrivals: u32,
    completed: u32,
}

struct World<'a> {
    scenario: &'a Scenario,
    now: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    pods: Vec<Pod>,
    queue: VecDeque<usize>,
    in_flight: u32,
    started: usize,
    started_in: Option<u64>,
    asked: u32,
    meter: Meter,
    looked: Option<u64>,
    look_due: Option<u64>,
    outcome: Outcome,
}

/// Lets an autoscaler meet a scenario.
pub(crate) fn simulate(scenario: &Scenario, scaler: &mut dyn Scaler) -> Outcome {
    let mut world = World {
        scenario,
        now: 0,
        events: BinaryHeap::new(),
        pods: Vec::new(),
        queue: VecDeque::new(),
        in_flight: 0,
        started: 0,
        started_in: None,
        asked: 0,
        meter: Meter::default(),
        looked: None,
        look_due: None,
        outcome: Outcome { replicas: vec![(0, 0)], ..Outcome::default() },
    };
    if !scenario.requests.is_empty() {
        world.plan(scenario.requests[0].at, Event::Arrived { request: 0 });
    }
    world.plan(SECOND, Event::SecondOver);
    world.plan(0, Event::Look);
    world.run(scaler);
    world.finish()
}

impl World<'_> {
    fn plan(&mut self, at: u64, event: Event) {
        self.events.push(Reverse((at, event)));
    }

    fn run(&mut self, scaler: &mut dyn Scaler) {
        while let Some(Reverse((at, event))) = self.events.pop() {
            if at >= self.scenario.end {
                break;
            }
            self.pass(at);
            match event {
                Event::Arrived { request } => self.arrived(request, scaler),
                Event::Completed { pod } => self.completed(pod),
                Event::Started { pod } => self.pod_started(pod),
                Event::SecondOver => {
                    self.second_over(scaler);
                    self.plan(self.now + SECOND, Event::SecondOver);
                }
                Event::Look => {
                    if self.look_due.is_none_or(|due| due <= self.now) {
                        self.look(scaler);
                    }
                }
            }
        }
    }

    /// Lets time pass, and counts what was under way meanwhile.
    fn pass(&mut self, to: u64) {
        let level = u64::from(self.in_flight) + self.queue.len() as u64;
        self.meter.sum += level * (to - self.meter.at);
        self.meter.busy += u64::from(self.in_flight) * (to - self.meter.at);
        self.meter.at = to;
        self.now = to;
    }

    fn arrived(&mut self, request: usize, scaler: &mut dyn Scaler) {
        self.meter.arrivals += 1;
        if let Some(next) = self.scenario.requests.get(request + 1) {
            self.plan(next.at, Event::Arrived { request: request + 1 });
        }
        self.queue.push_back(request);
        self.serve();
        if self.queue.is_empty() {
            return;
        }
        if self.asked == 0 {
            // The wake is not the autoscaler's: whoever holds the request asks for the first pod.
            self.ask(1);
        }
        if scaler.hears_pokes() {
            let earliest = self.looked.map_or(0, |looked| looked + POKE).max(self.now);
            self.look_at(earliest);
        }
    }

    fn look_at(&mut self, at: u64) {
        if self.look_due.is_none_or(|due| due > at) {
            self.look_due = Some(at);
            self.plan(at, Event::Look);
        }
    }

    /// Gives free slots to those who wait longest, at the least loaded pod.
    fn serve(&mut self) {
        while let Some(request) = self.queue.front().copied() {
            let slots = self.scenario.slots;
            let candidates = self.pods.iter_mut().enumerate();
            let free = candidates.filter(|(_, pod)| pod.phase == Phase::Ready && pod.in_flight < slots);
            let Some((index, pod)) = free.min_by_key(|(_, pod)| pod.in_flight) else { return };
            pod.in_flight += 1;
            self.in_flight += 1;
            self.queue.pop_front();
            let Request { at, service } = self.scenario.requests[request];
            self.outcome.waits.push(self.now - at);
            self.plan(self.now + service, Event::Completed { pod: index });
        }
    }

    fn completed(&mut self, index: usize) {
        let pod = &mut self.pods[index];
        pod.in_flight -= 1;
        self.in_flight -= 1;
        self.meter.completed += 1;
        if pod.phase == Phase::Draining && pod.in_flight == 0 {
            self.end(index);
        }
        self.serve();
    }

    fn pod_started(&mut self, index: usize) {
        if self.pods[index].phase == Phase::Starting {
            self.pods[index].phase = Phase::Ready;
            self.started_in = Some(self.now - self.pods[index].born);
            self.serve();
        }
    }

    fn second_over(&mut self, scaler: &mut dyn Scaler) {
        let Meter { sum, busy, arrivals, completed, .. } = self.meter;
        let number = self.now / SECOND - 1;
        let second = Second { number, concurrency_milli: sum / 1000, busy_milli: busy / 1000, arrivals, completed };
        scaler.second_over(second, &self.observation());
        self.meter = Meter { at: self.now, ..Meter::default() };
    }

    fn observation(&self) -> Observation {
        Observation {
            now: self.now,
            queued: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            in_flight: self.in_flight,
            current: self.asked,
            ready: self.ready(),
            started_in: self.started_in,
        }
    }

    fn ready(&self) -> u32 {
        let ready = self.pods.iter().filter(|pod| pod.phase == Phase::Ready).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    fn look(&mut self, scaler: &mut dyn Scaler) {
        self.looked = Some(self.now);
        self.look_due = None;
        let verdict = scaler.decide(&self.observation());
        // As the step-down hand-shake does, and as the KPA's proxies do: nothing goes to zero with a request waiting or in flight.
        let busy = self.in_flight > 0 || !self.queue.is_empty();
        let replicas = if busy { verdict.replicas.max(1) } else { verdict.replicas };
        if replicas != self.asked {
            self.ask(replicas);
        }
        if let Some(next) = verdict.next_look {
            self.look_at(next.max(self.now + 1_000));
        }
    }

    fn ask(&mut self, replicas: u32) {
        self.asked = replicas;
        self.outcome.changes += 1;
        self.outcome.replicas.push((self.now, replicas));
        let here = |pod: &Pod| matches!(pod.phase, Phase::Starting | Phase::Ready);
        let mut have = u32::try_from(self.pods.iter().filter(|pod| here(pod)).count()).unwrap_or(u32::MAX);
        while have < replicas {
            let start = self.scenario.starts[self.started % self.scenario.starts.len()];
            self.started += 1;
            self.pods.push(Pod { phase: Phase::Starting, in_flight: 0, born: self.now });
            self.plan(self.now + start, Event::Started { pod: self.pods.len() - 1 });
            have += 1;
        }
        while have > replicas {
            // Kubernetes takes pods that are not ready first; then those with the least to do.
            let candidates = self.pods.iter().enumerate().filter(|(_, pod)| here(pod));
            let victim =
                candidates.min_by_key(|(_, pod)| (pod.phase == Phase::Ready, pod.in_flight, Reverse(pod.born)));
            let Some((index, _)) = victim else { break };
            self.pods[index].phase = Phase::Draining;
            if self.pods[index].in_flight == 0 {
                self.end(index);
            }
            have -= 1;
        }
    }

    fn end(&mut self, index: usize) {
        let pod = &mut self.pods[index];
        pod.phase = Phase::Gone;
        self.outcome.replica_micros += self.now - pod.born;
    }

    fn finish(mut self) -> Outcome {
        let end = self.scenario.end;
        for pod in self.pods.iter().filter(|pod| pod.phase != Phase::Gone) {
            self.outcome.replica_micros += end.saturating_sub(pod.born);
        }
        for request in &self.queue {
            self.outcome.waits.push(end.saturating_sub(self.scenario.requests[*request].at));
        }
        self.outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaler::Verdict;

    struct Fixed(u32);

    impl Scaler for Fixed {
        fn second_over(&mut self, _: Second, _: &Observation) {}
        fn decide(&mut self, _: &Observation) -> Verdict {
            Verdict { replicas: self.0, next_look: None }
        }
    }

    fn scenario(requests: &[(u64, u64)]) -> Scenario {
        let requests = requests.iter().map(|(at, service)| Request { at: at * SECOND, service: service * SECOND });
        Scenario { requests: requests.collect(), starts: vec![2 * SECOND], slots: 1, end: 100 * SECOND }
    }

    #[test]
    fn a_request_waits_for_the_first_pod_and_the_next_for_the_slot() {
        let outcome = simulate(&scenario(&[(10, 5), (11, 1)]), &mut Fixed(1));
        assert_eq!(outcome.waits, [0, 4 * SECOND]);
        assert_eq!(outcome.replica_micros, 100 * SECOND);
        let outcome = simulate(&scenario(&[(10, 5), (11, 1)]), &mut Fixed(2));
        assert_eq!(outcome.waits, [0, 0]);
        assert_eq!(outcome.changes, 1);
    }

    #[test]
    fn who_never_scales_is_woken_all_the_same() {
        let outcome = simulate(&scenario(&[(10, 5)]), &mut Fixed(0));
        assert_eq!(outcome.waits, [2 * SECOND]);
    }
}
