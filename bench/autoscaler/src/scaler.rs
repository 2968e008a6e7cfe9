//! What an autoscaler sees and says in the simulation.

/// What an autoscaler sees at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    /// The moment, in µs.
    pub(crate) now: u64,
    /// Requests that wait.
    pub(crate) queued: u32,
    /// Requests at pods.
    pub(crate) in_flight: u32,
    /// Replicas asked for.
    pub(crate) current: u32,
    /// Pods that are ready.
    pub(crate) ready: u32,
}

/// What an autoscaler says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    /// Replicas that there should be.
    pub(crate) replicas: u32,
    /// When it wants to decide again, in µs. `None`: when something happens.
    pub(crate) next_look: Option<u64>,
}

/// An autoscaler.
pub(crate) trait Scaler {
    /// A second is over: its number, its average concurrency in thousandths (waiting ones included), its arrivals, and what is under way now.
    fn second_over(&mut self, second: u64, concurrency_milli: u64, arrivals: u32, now: &Observation);

    /// Decides.
    fn decide(&mut self, now: &Observation) -> Verdict;

    /// Whether a request without a slot makes it decide at once.
    fn hears_pokes(&self) -> bool {
        false
    }
}
