//! Where a Function's Service leads: to activators, or to its own pods when no activator takes requests.
//!
//! Pure. What always holds: an activator enters the slice only after it acknowledged the route (make before break); a slice
//! that leads somewhere is not emptied before [`FAIL_OPEN_AFTER`] is over.

use std::time::{Duration, Instant};

use crate::autoscaler::ActivatorAddress;
use crate::build::slice::{Address, Target};

/// How long no activator may be ready until the pods' own addresses are used.
pub const FAIL_OPEN_AFTER: Duration = Duration::from_secs(10);

/// What the choice depends on.
pub struct RouteInput<'a> {
    /// The Function's route port.
    pub port: u16,
    /// The port that its pods listen on.
    pub pod_port: u16,
    /// Activators that acknowledged the route.
    pub acknowledged: &'a [ActivatorAddress],
    /// For how long none of them has been ready; zero if one is.
    pub unready_for: Duration,
    /// The ready pods of the revision with traffic.
    pub pods: &'a [Address],
}

/// For how long no activator has been ready for a Function, by `now`; zero while one is. `settled`: whether the activators are known, so that
/// none that is known means none that there is.
pub fn unready_for(since: &mut Option<Instant>, ready: bool, settled: bool, now: Instant) -> Duration {
    if ready || !settled {
        *since = None;
        return Duration::ZERO;
    }
    now.duration_since(*since.get_or_insert(now))
}

/// Where the Service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To activators.
    Activators(Target),
    /// Wherever it led before: no activator is ready, but not for long.
    Keep,
    /// To the pods themselves, of which at least one must run.
    Pods(Target),
}

impl Route {
    /// What the slice must hold; `None` to leave it as it is.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Activators(target) | Self::Pods(target) => Some(target),
            Self::Keep => None,
        }
    }
}

/// Decides where the Service leads.
pub fn decide(input: &RouteInput<'_>) -> Route {
    let ready: Vec<Address> = input
        .acknowledged
        .iter()
        .filter(|activator| activator.ready)
        .map(|activator| Address { ip: activator.ip, node: activator.node.clone(), pod: None })
        .collect();
    if !ready.is_empty() {
        Route::Activators(Target { port: input.port, addresses: ready })
    } else if input.unready_for < FAIL_OPEN_AFTER {
        Route::Keep
    } else {
        Route::Pods(Target { port: input.pod_port, addresses: input.pods.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activator(ip: &str, ready: bool) -> ActivatorAddress {
        ActivatorAddress { ip: ip.parse().unwrap(), node: Some("node-1".to_owned()), ready }
    }

    fn route(acknowledged: &[ActivatorAddress], unready_secs: u64) -> Route {
        let pods = [Address { ip: "10.0.0.9".parse().unwrap(), node: None, pod: Some("hello-1-abc".to_owned()) }];
        decide(&RouteInput {
            port: 12_000,
            pod_port: 8080,
            acknowledged,
            unready_for: Duration::from_secs(unready_secs),
            pods: &pods,
        })
    }

    #[test]
    fn ready_activators_take_the_route_and_others_do_not() {
        let route = route(&[activator("10.0.0.1", true), activator("10.0.0.2", false)], 0);
        let target = route.target().unwrap();
        assert_eq!(target.port, 12_000);
        assert_eq!(target.addresses.len(), 1);
        assert!(matches!(route, Route::Activators(_)));
    }

    #[test]
    fn no_activator_is_missed_before_all_are_known() {
        let (mut since, begun) = (None, Instant::now());
        let mut after = |seconds, ready, settled| {
            unready_for(&mut since, ready, settled, begun + Duration::from_secs(seconds)).as_secs()
        };
        assert_eq!(after(0, false, false), 0);
        assert_eq!(after(60, false, false), 0, "a leader that takes a minute to hear of them opens nothing");
        assert_eq!(after(61, false, true), 0);
        assert_eq!(after(70, false, true), 9);
        assert_eq!(after(71, true, true), 0);
        assert_eq!(after(72, false, true), 0, "from anew");
        assert_eq!(after(82, false, true), 10);
    }

    #[test]
    fn a_short_gap_changes_nothing() {
        assert_eq!(route(&[], 9), Route::Keep);
        assert_eq!(route(&[activator("10.0.0.2", false)], 9), Route::Keep);
    }

    #[test]
    fn a_long_gap_opens_the_way_to_the_pods_and_a_ready_activator_closes_it() {
        let open = route(&[activator("10.0.0.2", false)], 10);
        assert!(matches!(&open, Route::Pods(target) if target.port == 8080));
        let back = route(&[activator("10.0.0.2", true)], 0);
        assert!(matches!(back, Route::Activators(_)));
    }
}
