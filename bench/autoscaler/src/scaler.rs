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
    /// How long the last pod took to start, in µs.
    pub(crate) started_in: Option<u64>,
}

/// What happened in one second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Second {
    /// Which one.
    pub(crate) number: u64,
    /// Average of requests in flight and waiting, in thousandths.
    pub(crate) concurrency_milli: u64,
    /// Average of requests in flight, in thousandths.
    pub(crate) busy_milli: u64,
    /// Requests that arrived.
    pub(crate) arrivals: u32,
    /// Requests that were answered.
    pub(crate) completed: u32,
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
    /// A second is over, and this is what is under way now.
    fn second_over(&mut self, second: Second, now: &Observation);

    /// Decides.
    fn decide(&mut self, now: &Observation) -> Verdict;

    /// Whether a request without a slot makes it decide at once.
    fn hears_pokes(&self) -> bool {
        false
    }
}
