//! When a pod that takes connections and then fails is left alone for a while: outlier detection as Envoy does it (consecutive
//! failures, growing times, a bound on the share), made for small numbers of pods. Pure.
//!
//! A failure is an exchange that the pod broke, an answer that is not HTTP, a head that did not come in time, or a gateway's status
//! (502, 503, 504). Other statuses are the function's own business. What always holds: half of a revision's pods at most are
//! ejected, so never the only one, and never all.

use std::time::Duration;

use http::StatusCode;

/// Failures in a row that eject a pod.
pub const CONSECUTIVE: u32 = 5;
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// Whether a pod's status speaks of the pod rather than of the request.
pub fn is_gateway_failure(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// For how long a pod is ejected that was ejected `before` times since it last did well.
pub fn ejected_for(before: u32) -> Duration {
    FIRST.saturating_mul(1u32.checked_shl(before).unwrap_or(u32::MAX)).min(LONGEST)
}

/// Whether one more of a revision's pods may be ejected, where `in_use` are not and `ejected` are.
pub fn may_eject(in_use: usize, ejected: usize) -> bool {
    (ejected + 1) * 2 <= in_use + ejected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_at_most_and_never_the_only_one() {
        for pods in 0usize..50 {
            let mut ejected = 0;
            while may_eject(pods - ejected, ejected) {
                ejected += 1;
            }
            assert_eq!(ejected, pods / 2);
        }
    }

    #[test]
    fn each_time_takes_twice_as_long() {
        let seconds = |before| ejected_for(before).as_secs();
        assert_eq!([seconds(0), seconds(1), seconds(2), seconds(6), seconds(40)], [5, 10, 20, 300, 300]);
    }

    #[test]
    fn the_functions_own_errors_eject_nobody() {
        for status in [200, 404, 429, 500, 501] {
            assert!(!is_gateway_failure(StatusCode::from_u16(status).unwrap()));
        }
    }
}
