//! Which endpoint gets a request: of a few the least loaded, of many the less loaded of two at random (Mitzenmacher, "The Power of
//! Two Choices in Randomized Load Balancing", 2001). Pure; randomness comes in as an argument.
//!
//! What always holds: every candidate may be chosen (the caller keeps those without a free slot out), so a choice takes the same
//! short time beside ten endpoints or ten thousand, and while any endpoint has a free slot one is chosen.

use super::ramp::FULL_WEIGHT;

/// Up to so many candidates all are compared; beyond, two at random.
const FULL_SCAN: usize = 8;

/// How loaded one candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests at it.
    pub in_flight: u32,
    /// How much it counts, out of [`FULL_WEIGHT`]; less while it is new.
    pub weight: u32,
}

impl Load {
    /// What one more request would make of it: least wins.
    fn after(self) -> u64 {
        (u64::from(self.in_flight) + 1) * u64::from(FULL_WEIGHT) / u64::from(self.weight.max(1))
    }
}

/// The position to use among `count` candidates whose load is `load(position)`; `None` where there are none. `random` spreads ties.
pub fn pick(count: usize, load: impl Fn(usize) -> Load, random: u64) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let first = below(random, count);
    if count > FULL_SCAN {
        let second = (first + 1 + below(random >> 32, count - 1)) % count;
        return Some(if load(second).after() < load(first).after() { second } else { first });
    }
    (0..count).map(|step| (first + step) % count).min_by_key(|at| load(*at).after())
}

fn below(random: u64, count: usize) -> usize {
    usize::try_from(random % count as u64).unwrap_or(0)
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

    fn at(in_flight: u32) -> Load {
        Load { in_flight, weight: FULL_WEIGHT }
    }

    proptest! {
        #[test]
        fn chooses_one_exactly_where_there_is_one(loads in prop::collection::vec(0u32..5, 0..40), random: u64) {
            match pick(loads.len(), |i| at(loads[i]), random) {
                Some(chosen) => prop_assert!(chosen < loads.len()),
                None => prop_assert!(loads.is_empty()),
            }
        }

        #[test]
        fn few_candidates_get_the_exact_minimum(loads in prop::collection::vec(0u32..5, 1..=FULL_SCAN), random: u64) {
            let chosen = pick(loads.len(), |i| at(loads[i]), random).unwrap();
            prop_assert_eq!(loads[chosen], *loads.iter().min().unwrap());
        }

        /// Of many, never the one that is loaded most, as two different ones are compared.
        #[test]
        fn many_candidates_never_get_the_strict_maximum(
            loads in prop::collection::vec(0u32..5, FULL_SCAN + 1..60), worst in 0usize..60, random: u64,
        ) {
            let mut loads = loads;
            let worst = worst % loads.len();
            loads[worst] = 9;
            prop_assert_ne!(pick(loads.len(), |i| at(loads[i]), random), Some(worst));
        }
    }

    #[test]
    fn many_requests_spread_evenly_over_many_endpoints() {
        let mut spread = Spread::new(7);
        let mut loads = [0u32; 50];
        for _ in 0..5_000 {
            let chosen = pick(50, |i| at(loads[i]), spread.draw()).unwrap();
            loads[chosen] += 1;
        }
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least <= 12, "between {least} and {most}, mean 100");
    }

    #[test]
    fn an_endpoint_of_an_eighth_of_the_weight_gets_about_an_eighth_of_the_load() {
        let mut spread = Spread::new(7);
        let mut loads = [0u32; 3];
        for _ in 0..1_700 {
            let load = |i: usize| Load { in_flight: loads[i], weight: if i == 0 { 1 } else { FULL_WEIGHT } };
            let chosen = pick(3, load, spread.draw()).unwrap();
            loads[chosen] += 1;
        }
        assert!((95..=105).contains(&loads[0]), "{loads:?}");
    }
}
