//! How many requests may be sent again that may have reached a pod: a budget after Finagle's `RetryBudget` (20 % of the requests of
//! the last ten seconds, and ten a second besides), which linkerd uses too. Pods that fail get no storm on top. Pure.
//!
//! Requests that surely reached no pod are not counted: they go back to their place in the queue, which is bounded itself.

/// Seconds that a deposit lasts.
const SECONDS: usize = 10;
/// Requests that pay for one retry.
const REQUESTS_FOR_ONE: u32 = 5;
/// Retries a second that are free.
const FREE: u32 = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    requests: u32,
    retries: u32,
}

/// The budget of one Function.
#[derive(Clone, Debug, Default)]
pub struct RetryBudget {
    /// What happened in each of the last seconds; `second` is the newest.
    seconds: [Second; SECONDS],
    second: u64,
}

impl RetryBudget {
    /// A request came, in the second `now` since some moment.
    pub fn deposit(&mut self, now: u64) {
        let second = self.advance(now);
        second.requests = second.requests.saturating_add(1);
    }

    /// Takes one retry out; `false` where nothing is left.
    pub fn withdraw(&mut self, now: u64) -> bool {
        self.advance(now);
        let sum = |of: fn(&Second) -> u32| self.seconds.iter().map(|s| u64::from(of(s))).sum::<u64>();
        let allowed = sum(|s| s.requests) / u64::from(REQUESTS_FOR_ONE) + u64::from(FREE) * SECONDS as u64;
        if sum(|s| s.retries) >= allowed {
            return false;
        }
        let second = self.advance(now);
        second.retries = second.retries.saturating_add(1);
        true
    }

    fn advance(&mut self, now: u64) -> &mut Second {
        let now = now.max(self.second);
        if now > self.second {
            let passed = (now - self.second).min(SECONDS as u64);
            for gone in 0..passed {
                self.seconds[place(now - gone)] = Second::default();
            }
            self.second = now;
        }
        &mut self.seconds[place(now)]
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fifth_of_the_requests_and_a_floor() {
        let mut budget = RetryBudget::default();
        let retries = |budget: &mut RetryBudget, now| (0..10_000).take_while(|_| budget.withdraw(now)).count();
        assert_eq!(retries(&mut budget, 3), 100, "the floor of ten seconds, without any request");
        assert_eq!(retries(&mut budget, 12), 0, "they are spent");
        assert_eq!(retries(&mut budget, 13), 100, "and forgotten");
        for _ in 0..1000 {
            budget.deposit(13);
        }
        assert_eq!(retries(&mut budget, 13), 200);
        assert_eq!(retries(&mut budget, 500), 100, "deposits are forgotten too");
    }

    proptest! {
        /// Against a naive list of everything that happened and when.
        #[test]
        fn equals_a_list_of_all_that_happened(ops in prop::collection::vec((0u8..6, 0u64..4, 1u32..60), 0..200)) {
            let mut budget = RetryBudget::default();
            let (mut requests, mut retries, mut now): (Vec<u64>, Vec<u64>, u64) = (Vec::new(), Vec::new(), 0);
            for (op, later, times) in ops {
                match op {
                    0 => now += later,
                    1 => (0..times).for_each(|_| { budget.deposit(now); requests.push(now); }),
                    _ => for _ in 0..times {
                        let lately = |all: &[u64]| all.iter().filter(|at| **at + 10 > now).count();
                        let allowed = lately(&retries) < lately(&requests) / 5 + 100;
                        prop_assert_eq!(budget.withdraw(now), allowed);
                        if allowed { retries.push(now); }
                    },
                }
            }
        }
    }
}
