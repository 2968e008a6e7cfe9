use proptest::prelude::*;

use super::*;

/// Nodes with so many processors each. A start waits for `wait` ms, and needs `work` ms of one processor, which all starts of a node share.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    nodes: usize,
    processors: u64,
    wait: u64,
    work: u64,
}

struct Start {
    node: usize,
    wait: u64,
    /// In thousandths of a ms.
    work: u64,
    begun: Begun,
}

impl Cluster {
    /// When each of so many was answered that were all asked at once, in ms, in order.
    fn storm(self, limit: &mut StartLimit, functions: usize) -> Vec<u64> {
        let (mut next, mut now) = (0, 0);
        let mut running: Vec<Start> = Vec::new();
        let mut answered = Vec::new();
        while answered.len() < functions {
            while next < functions && running.len() < limit.limit() {
                // No two starts are alike.
                let part = 70 + (next as u64 * 37) % 60;
                let (wait, work) = (self.wait * part / 100, self.work * part * 10);
                running.push(Start { node: next % self.nodes, wait, work, begun: limit.begin(Millis(now)) });
                next += 1;
            }
            now += 1;
            let working = |node| running.iter().filter(|it| it.node == node && it.wait == 0).count() as u64;
            let share: Vec<u64> =
                (0..self.nodes).map(|node| (1000 * self.processors / working(node).max(1)).min(1000)).collect();
            for start in &mut running {
                if start.wait > 0 {
                    start.wait -= 1;
                } else {
                    start.work = start.work.saturating_sub(share[start.node]);
                }
            }
            running.retain(|start| {
                let done = start.wait == 0 && start.work == 0;
                if done {
                    answered.push(now);
                    limit.end(Millis(now), start.begun, next < functions);
                }
                !done
            });
        }
        answered
    }

    /// Of storms of 50: medians of the first, of the third, and without limit; the last answers of the third, and without limit.
    fn storms(self) -> (Vec<u64>, Vec<u64>, StartLimit) {
        let mut limit = StartLimit::default();
        let storms: Vec<_> = (0..3).map(|_| self.storm(&mut limit, 50)).collect();
        let mut none = StartLimit { limit: MOST, trial: Trial::Unknown, ..StartLimit::default() };
        let all = self.storm(&mut none, 50);
        let medians = storms.iter().chain([&all]).map(|storm| storm[25]).collect();
        (medians, vec![storms[2][49], all[49]], limit)
    }
}

#[test]
fn on_a_small_node_half_are_answered_in_a_good_half_of_the_time() {
    for (wait, work, median, latest) in [(150, 200, 70, 115), (50, 300, 70, 115), (400, 100, 80, 130)] {
        let (medians, last, limit) = Cluster { nodes: 1, processors: 2, wait, work }.storms();
        let found = format!("{wait} {work}: {medians:?} {last:?} {}", limit.limit());
        assert!(medians[2] * 100 <= medians[3] * median, "{found}");
        assert!(medians[0] <= medians[3], "{found}");
        assert!(last[0] * 100 <= last[1] * latest, "{found}");
    }
}

#[test]
fn where_there_is_room_for_all_nobody_is_held_back() {
    let (medians, last, limit) = Cluster { nodes: 50, processors: 8, wait: 150, work: 200 }.storms();
    let found = format!("{medians:?} {last:?} {}", limit.limit());
    assert!(limit.limit() >= 50, "{found}");
    assert_eq!((medians[2], last[0]), (medians[3], last[1]), "{found}");
}

/// Ends a whole round whose starts took so many ms each.
fn round(limit: &mut StartLimit, now: &mut u64, millis: u64) {
    let begun: Vec<Begun> = (0..limit.limit() / 2).map(|_| limit.begin(Millis(*now))).collect();
    *now += millis;
    begun.iter().for_each(|begun| limit.end(Millis(*now), *begun, true));
}

#[test]
fn what_was_found_out_is_put_to_the_test_again() {
    let mut limit = StartLimit::default();
    let mut now = 0;
    // Each start takes the whole node for 100 ms.
    let mut seen = Vec::new();
    for _ in 0..60 {
        let millis = 100 * limit.limit() as u64;
        round(&mut limit, &mut now, millis);
        seen.push(limit.limit());
    }
    assert_eq!(seen[..4], [8, 4, 4, 4], "down, down, settled");
    let trials = seen[4..].iter().filter(|limit| **limit == 2 * LEAST).count();
    assert_eq!(trials, 3, "{seen:?}");
    assert!(seen[4..].iter().all(|limit| *limit <= 2 * LEAST), "what is not worth it is undone: {seen:?}");
    // The cluster has grown.
    for _ in 0..60 {
        round(&mut limit, &mut now, 400);
    }
    assert_eq!(limit.limit(), MOST);
    // And has only half of its nodes.
    for _ in 0..60 {
        let millis = 400.max(limit.limit() as u64 / 2);
        round(&mut limit, &mut now, millis);
    }
    assert!((512..=1_024).contains(&limit.limit()), "{limit:?}");
}

#[test]
fn a_round_in_which_nobody_waited_says_nothing() {
    let mut limit = StartLimit::default();
    for now in 0..1_000 {
        let begun = limit.begin(Millis(now));
        limit.end(Millis(now + 1), begun, now % 5 != 0);
    }
    assert_eq!((limit.limit(), limit.trial), (FIRST, Trial::Unknown));
}

#[test]
fn what_began_under_another_limit_says_nothing_about_this_one() {
    let mut limit = StartLimit::default();
    let late = limit.begin(Millis(0));
    round(&mut limit, &mut 0, 400);
    assert_eq!(limit.limit(), FIRST / 2);
    let before = limit.clone();
    limit.end(Millis(500), late, true);
    assert_eq!(limit, before);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_limit_keeps_its_bounds(steps in proptest::collection::vec((0_u64..5_000, any::<bool>(), 0_u8..10), 0..2_000)) {
        let mut limit = StartLimit::default();
        let mut now = 0;
        let mut open = Vec::new();
        for (millis, ends, crowded) in steps {
            now += millis;
            if ends && let Some(begun) = open.pop() {
                limit.end(Millis(now), begun, crowded > 0);
            } else {
                open.push(limit.begin(Millis(now)));
            }
            prop_assert!((LEAST..=MOST).contains(&limit.limit()));
        }
    }
}
