//! When to try again what did not work: quickly at first, then ever more slowly. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const LAST: Duration = Duration::from_secs(1);
const GROWTH: f64 = 1.35;

/// The pauses between attempts: 10 ms, growing 1.35× to 1 s.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pause: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { pause: FIRST }
    }
}

impl Schedule {
    /// The pause before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = pause.mul_f64(GROWTH).min(LAST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_from_10_ms_to_a_second_and_stays() {
        let mut schedule = Schedule::default();
        let pauses: Vec<Duration> = (0..40).map(|_| schedule.next_pause()).collect();
        assert_eq!(pauses[0], FIRST);
        assert_eq!(pauses[1], Duration::from_micros(13_500));
        assert_eq!(pauses[39], LAST);
        assert!(pauses.windows(2).all(|w| w[0] <= w[1]));
        let first_second = pauses.iter().scan(Duration::ZERO, |sum, p| {
            *sum += *p;
            Some(*sum)
        });
        assert!(first_second.filter(|t| *t < Duration::from_secs(1)).count() >= 10);
    }
}
