//! The autoscaler that knows the future: no request ever waits, and no pod exists a moment longer than that takes. Computed, not simulated.

use crate::world::{Outcome, SECOND, Scenario};

/// Microseconds between two looks.
const GRID: u64 = SECOND / 10;

/// The least that answers every request without waiting: at each moment as many replicas as the busiest moment needs that a pod asked
/// for now could just be ready for.
pub(crate) fn outcome(scenario: &Scenario) -> Outcome {
    let steps = (scenario.end / GRID) as usize + 1;
    let needed = needed(scenario, steps);
    let mut starts = scenario.starts.clone();
    starts.sort_unstable();
    let start = starts.get(starts.len() * 95 / 100).copied().unwrap_or(0);
    let ahead = (start / GRID) as usize + 1;
    let mut outcome = Outcome { waits: vec![0; scenario.requests.len()], ..Outcome::default() };
    let mut last = 0;
    for (step, replicas) in sliding_maxima(&needed, ahead).into_iter().enumerate() {
        outcome.replica_micros += u64::from(replicas) * GRID;
        if replicas != last {
            outcome.changes += 1;
            outcome.replicas.push((step as u64 * GRID, replicas));
            last = replicas;
        }
    }
    outcome
}

/// Replicas that each stretch of the grid needs, with every request served at once.
fn needed(scenario: &Scenario, steps: usize) -> Vec<u32> {
    let mut edges: Vec<(u64, i64)> = Vec::with_capacity(scenario.requests.len() * 2);
    for request in &scenario.requests {
        edges.push((request.at, 1));
        edges.push((request.at + request.service, -1));
    }
    edges.sort_unstable();
    let mut needed = vec![0; steps];
    let (mut level, mut from) = (0_i64, 0_usize);
    for (at, change) in edges {
        let to = ((at / GRID) as usize).min(steps - 1);
        let replicas = pods(level, scenario.slots);
        for slot in &mut needed[from..=to] {
            *slot = replicas.max(*slot);
        }
        level += change;
        needed[to] = needed[to].max(pods(level, scenario.slots));
        from = to;
    }
    needed
}

fn pods(level: i64, slots: u32) -> u32 {
    u32::try_from(level.max(0)).unwrap_or(u32::MAX).div_ceil(slots)
}

/// The highest value from each place to `ahead` places later.
fn sliding_maxima(values: &[u32], ahead: usize) -> Vec<u32> {
    let mut maxima = vec![0; values.len()];
    let mut window: std::collections::VecDeque<usize> = std::collections::VecDeque::new();
    for at in (0..values.len()).rev() {
        while window.back().is_some_and(|later| values[*later] <= values[at]) {
            window.pop_back();
        }
        window.push_back(at);
        while window.front().is_some_and(|latest| *latest > at + ahead) {
            window.pop_front();
        }
        maxima[at] = window.front().map_or(0, |highest| values[*highest]);
    }
    maxima
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Request;

    #[test]
    fn maxima_look_ahead_and_no_further() {
        assert_eq!(sliding_maxima(&[0, 0, 3, 0, 1, 0], 1), [0, 3, 3, 1, 1, 0]);
    }

    #[test]
    fn two_at_once_need_two_pods_from_a_start_before() {
        let requests =
            vec![Request { at: 10 * SECOND, service: SECOND }, Request { at: 10 * SECOND, service: 2 * SECOND }];
        let outcome = outcome(&Scenario { requests, starts: vec![SECOND], slots: 1, end: 20 * SECOND });
        assert_eq!(outcome.replicas.iter().map(|(_, replicas)| *replicas).collect::<Vec<_>>(), [2, 1, 0]);
        let seconds = outcome.replica_micros as f64 / SECOND as f64;
        assert!((5.0..5.6).contains(&seconds), "{seconds}");
    }
}
