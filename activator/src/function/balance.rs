//! Which endpoint gets a request: the least loaded with a free slot. Pure; randomness comes in as an argument.
//!
//! What always holds: an endpoint at its limit is never chosen, and while any endpoint has a free slot one is chosen, so that
//! no request waits beside a free pod.

/// Up to so many candidates all are compared; beyond, two at random, and all only where both are full.
const FULL_SCAN: usize = 8;

/// How loaded one candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests at it.
    pub in_flight: u32,
    /// Requests it may have; `u32::MAX` for no limit.
    pub capacity: u32,
}

impl Load {
    fn free(self) -> bool {
        self.in_flight < self.capacity
    }
}

/// The position to use among `count` candidates whose load is `load(position)`, or `None` where all are full. A candidate that
/// must not be used has capacity 0. `random` spreads ties.
pub fn pick(count: usize, load: impl Fn(usize) -> Load, random: u64) -> Option<usize> {
    if count > FULL_SCAN {
        let count64 = count as u64;
        let first = (random % count64) as usize;
        let second = ((random >> 32) % count64) as usize;
        let better = [first, second].into_iter().filter(|at| load(*at).free()).min_by_key(|at| load(*at).in_flight);
        if better.is_some() {
            return better;
        }
    }
    let start = if count == 0 { 0 } else { (random % count as u64) as usize };
    let mut best: Option<(u32, usize)> = None;
    for step in 0..count {
        let at = (start + step) % count;
        let candidate = load(at);
        if candidate.free() && best.is_none_or(|(least, _)| candidate.in_flight < least) {
            best = Some((candidate.in_flight, at));
        }
    }
    best.map(|(_, at)| at)
}

/// A small, fast source of randomness for spreading ties (xorshift64*); not for secrets.
#[derive(Clone, Debug)]
pub struct Spread(u64);

impl Spread {
    /// Starts from any seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next value.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chooses_a_free_one_exactly_where_there_is_one(
            loads in prop::collection::vec((0u32..5, 0u32..5), 0..40), random: u64,
        ) {
            let load = |at: usize| Load { in_flight: loads[at].0, capacity: loads[at].1 };
            let any_free = loads.iter().any(|(in_flight, capacity)| in_flight < capacity);
            match pick(loads.len(), load, random) {
                Some(at) => prop_assert!(load(at).free()),
                None => prop_assert!(!any_free),
            }
        }

        #[test]
        fn few_candidates_get_the_exact_minimum(
            loads in prop::collection::vec(0u32..5, 1..=FULL_SCAN), random: u64,
        ) {
            let load = |at: usize| Load { in_flight: loads[at], capacity: u32::MAX };
            let at = pick(loads.len(), load, random).unwrap();
            prop_assert_eq!(loads[at], *loads.iter().min().unwrap());
        }
    }

    #[test]
    fn many_requests_spread_evenly_over_many_endpoints() {
        let mut spread = Spread::new(7);
        let mut loads = [0u32; 50];
        for _ in 0..5_000 {
            let load = |at: usize| Load { in_flight: loads[at], capacity: u32::MAX };
            let at = pick(50, load, spread.draw()).unwrap();
            loads[at] += 1;
        }
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least <= 12, "between {least} and {most}, mean 100");
    }
}
