//! What a person sees while a cluster is made: a line on stderr for each step that took long enough to wonder about.

use std::time::{Duration, Instant};

/// Steps shorter than this are not worth a line.
const WORTH_A_LINE: Duration = Duration::from_secs(2);

/// Prints progress with the seconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    began: Instant,
    /// Prints every step, however short.
    verbose: bool,
}

impl Progress {
    /// Starts the clock.
    pub fn start(verbose: bool) -> Self {
        Self { began: Instant::now(), verbose }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Says what is going on or has happened, at once.
    pub fn say(&self, text: &str) {
        eprintln!("{:6.1} s  {text}", self.elapsed().as_secs_f64());
    }

    /// Says that a step is done, if it took long or everything is to be said.
    pub fn done(&self, text: &str, took: Duration) {
        if self.verbose || took >= WORTH_A_LINE {
            self.say(&format!("{text} (took {:.1} s)", took.as_secs_f64()));
        }
    }
}
