//! The conditions of a Function and the reasons that they carry.

/// `True` when the Function can answer, at zero pods included.
pub const READY: &str = "Ready";
/// Whether the newest revision's pods start and pass their probes.
pub const WORKLOAD_READY: &str = "WorkloadReady";
/// Whether requests to the Function's names reach an activator, or its pods where it failed open.
pub const ROUTE_READY: &str = "RouteReady";
/// Whether pods run. `False` with reason [`SCALED_TO_ZERO`] at zero.
pub const ACTIVE: &str = "Active";
/// Abnormal-true (kstatus): the operator is still working towards the spec.
pub const RECONCILING: &str = "Reconciling";
/// Abnormal-true (kstatus): it cannot go on without a change from outside.
pub const STALLED: &str = "Stalled";

/// Reason of `Active=False` at zero pods.
pub const SCALED_TO_ZERO: &str = "ScaledToZero";
