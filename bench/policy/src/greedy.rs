//! Greedy-dual keep-alive: Fuerst and Sharma, "FaasCache: Keeping Serverless Computing Alive with Greedy-Dual Caching", ASPLOS'21. Pods stay until their
//! memory is needed; the one with the lowest priority goes: clock + frequency · cost / size, where the clock is the priority of the last one that went,
//! the frequency counts requests since the pod began, the cost is what a cold start takes, and the size is its memory.
//!
//! What always holds: only idle pods go; the memory of all pods exceeds the capacity only where no idle one is left.

use pilotlight_scaling::idle::Rung;

use crate::world::{Outcome, Workload};

struct Pod {
    frequency: u64,
    priority: f64,
    /// Since when it exists.
    born: u64,
    /// When its process runs.
    ready: u64,
    /// When its last request is answered.
    until: u64,
}

struct Cache<'a> {
    workload: &'a Workload,
    capacity: u64,
    used: u64,
    clock: f64,
    pods: Vec<Option<Pod>>,
    outcomes: Vec<Outcome>,
}

/// Lets greedy-dual meet a workload, with memory for so many percent of all Functions at once.
pub(crate) fn simulate(workload: &Workload, percent: u64) -> Vec<Outcome> {
    let all: u64 = workload.functions.iter().map(|function| u64::from(function.footprint.memory_mib)).sum();
    let mut cache = Cache {
        workload,
        capacity: all * percent / 100,
        used: 0,
        clock: 0.0,
        pods: workload.functions.iter().map(|_| None).collect(),
        outcomes: workload.functions.iter().map(|_| Outcome::default()).collect(),
    };
    let each = workload.functions.iter().enumerate();
    let mut arrivals: Vec<(u64, usize, u64)> =
        each.flat_map(|(index, function)| function.requests.iter().map(move |r| (r.at, index, r.service))).collect();
    arrivals.sort_unstable();
    for (at, function, service) in arrivals {
        cache.arrived(at, function, service);
    }
    for function in 0..workload.functions.len() {
        cache.evict(function, workload.end);
    }
    cache.outcomes
}

impl Cache<'_> {
    fn size(&self, function: usize) -> u64 {
        u64::from(self.workload.functions[function].footprint.memory_mib)
    }

    fn arrived(&mut self, at: u64, function: usize, service: u64) {
        let size = self.size(function);
        let cost = self.workload.wakes.of(Rung::Zero);
        if self.pods[function].is_none() {
            self.make_room(size, at);
            self.used += size;
            self.outcomes[function].wake(Rung::Zero);
            self.pods[function] = Some(Pod { frequency: 0, priority: 0.0, born: at, ready: at + cost, until: at });
        }
        let pod = self.pods[function].as_mut().expect("it was there or was just made");
        pod.frequency += 1;
        pod.priority = self.clock + pod.frequency as f64 * cost as f64 / size.max(1) as f64;
        let wait = pod.ready.saturating_sub(at);
        pod.until = pod.until.max(at + wait + service);
        self.outcomes[function].wait(wait, wait > 0);
    }

    /// Lets idle pods go, the least important first, until there is room or none is left.
    fn make_room(&mut self, size: u64, now: u64) {
        while self.used + size > self.capacity {
            let idle = self.pods.iter().enumerate().filter_map(|(index, pod)| pod.as_ref().map(|pod| (index, pod)));
            let idle = idle.filter(|(_, pod)| pod.until < now);
            let Some((victim, priority)) =
                idle.map(|(index, pod)| (index, pod.priority)).min_by(|a, b| a.1.total_cmp(&b.1))
            else {
                return;
            };
            self.clock = self.clock.max(priority);
            self.evict(victim, now);
        }
    }

    fn evict(&mut self, function: usize, now: u64) {
        let Some(pod) = self.pods[function].take() else { return };
        self.used -= self.size(function);
        let footprint = self.workload.functions[function].footprint;
        self.outcomes[function].pass(footprint, Rung::Active, now.saturating_sub(pod.born));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Function, Request};
    use pilotlight_scaling::idle::{Footprint, Wakes};

    fn workload(functions: &[(u32, &[u64])]) -> Workload {
        let function = |(memory_mib, seconds): &(u32, &[u64])| Function {
            requests: seconds.iter().map(|at| Request { at: at * 1000, service: 100 }).collect(),
            footprint: Footprint { memory_mib: *memory_mib, cpu_milli: 0, parked_mib: Some(2) },
        };
        Workload { functions: functions.iter().map(function).collect(), end: 100_000, wakes: Wakes::default() }
    }

    #[test]
    fn nothing_goes_while_there_is_room() {
        let outcomes = simulate(&workload(&[(100, &[1, 50, 90]), (100, &[2])]), 100);
        assert_eq!(outcomes.iter().map(|outcome| outcome.pod_creations).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(outcomes[0].pods, 99_000);
    }

    #[test]
    fn the_one_that_is_called_less_goes_and_comes_back() {
        // Room for two of three.
        let outcomes = simulate(&workload(&[(100, &[1, 2, 3, 50]), (100, &[10, 60]), (100, &[20, 70])]), 67);
        assert_eq!(outcomes.iter().map(|outcome| outcome.pod_creations).collect::<Vec<_>>(), [1, 2, 2]);
    }

    #[test]
    fn a_busy_pod_never_goes() {
        let mut both = workload(&[(100, &[1]), (100, &[2])]);
        both.functions[0].requests[0].service = 50_000;
        let outcomes = simulate(&both, 50);
        assert_eq!((outcomes[0].pods, outcomes[1].pods), (99_000, 98_000));
    }
}
