//! Every reason has its word and its sentence.

use super::*;

#[test]
fn a_reason_reads_as_a_sentence() {
    let reason = Reason {
        cause: Cause::Stable {
            average: Average { metric: Metric::Concurrency, sum_milli: 255_300, seconds: 60 },
            target_milli: 700,
        },
        bound: Some(Bound::Max(5)),
    };
    assert_eq!(reason.to_string(), "concurrency 4.25 over 60 s, 0.7 for each pod; maxReplicas is 5");
    assert_eq!(reason.code(), "MaxReplicas");
}

#[test]
fn every_cause_has_a_code_and_words_with_its_numbers() {
    let average = Average { metric: Metric::Concurrency, sum_milli: 240_000, seconds: 60 };
    let rate = Average { metric: Metric::Rps, sum_milli: 60_500, seconds: 6 };
    let ahead = Average { metric: Metric::Rps, sum_milli: 90_000, seconds: 6 };
    let table = [
        (Cause::AtZero { queued: 0 }, "AtZero", "at zero, and nothing waits"),
        (Cause::AtZero { queued: 3 }, "AtZero", "at zero with 3 waiting; an activator wakes it"),
        (
            Cause::Idle { silent_seconds: 61, needed_seconds: 60 },
            "Idle",
            "no request for 61 s at any activator, 60 s are enough",
        ),
        (
            Cause::NotIdleYet { silent_seconds: 7, needed_seconds: 60 },
            "NotIdleYet",
            "no request for 7 s of the 60 s until zero",
        ),
        (
            Cause::Ladder(IdleReason::Settling { idle_millis: 500, hold_millis: 2_000 }),
            "Settling",
            "idle for 0.5 s, nothing is done before 2.0 s",
        ),
        (Cause::Stable { average, target_milli: 700 }, "StableWindow", "concurrency 4 over 60 s, 0.7 for each pod"),
        (Cause::Lately { average, target_milli: 700 }, "RecentLoad", "concurrency 4 over 60 s, 0.7 for each pod"),
        (
            Cause::Panic { average: rate, target_milli: 7_000 },
            "PanicWindow",
            "10.08 requests/s over 6 s, 7 for each pod, more than the ready pods can bear",
        ),
        (
            Cause::Rising { average: rate, ahead, start_millis: 1_500, target_milli: 8_500 },
            "RisingLoad",
            "10.08 requests/s over 6 s, 8.5 for each pod, and 15 when a new one has started in 1500 ms",
        ),
        (Cause::Queue { queued: 5, in_flight: 20, slots: 10 }, "Queue", "5 waiting and 20 in flight, 10 for each pod"),
        (Cause::PanicHold { wanted: 2 }, "PanicHold", "2 would do, but there was a surge a moment ago"),
        (
            Cause::Peak { wanted: 2, seconds: 60 },
            "PeakLoad",
            "2 would do on average, but not at the peak of the last 60 s",
        ),
        (
            Cause::Delay { wanted: 2, seconds: 30 },
            "ScaleDownDelay",
            "2 would do, but more was needed within the scale-down delay of 30 s",
        ),
        (
            Cause::DataMissing { wanted: 2 },
            "DataMissing",
            "2 would do by what is known, but samples of an activator are missing",
        ),
        (
            Cause::Settling { wanted: 1, seconds: 10 },
            "Settling",
            "1 would do, but requests may still reach pods past the activators for 10 s",
        ),
        (
            Cause::HistoryMissing { wanted: 2, seconds: 60 },
            "HistoryMissing",
            "2 would do now, but this leader does not know yet what the last 60 s needed",
        ),
    ];
    for (cause, code, words) in table {
        let reason = Reason { cause, bound: None };
        assert_eq!((reason.code(), reason.to_string().as_str()), (code, words));
    }
}

#[test]
fn every_bound_that_moves_a_number_says_so() {
    let table = [
        (Bound::Min(2), "MinReplicas", "minReplicas is 2"),
        (Bound::MinActive(2), "MinActiveReplicas", "minActiveReplicas is 2"),
        (
            Bound::Activation(2),
            "ActivationReplicas",
            "activationReplicas is 2, and so many have not been ready since zero",
        ),
        (Bound::Max(2), "MaxReplicas", "maxReplicas is 2"),
        (Bound::Floor(2, FloorReason::Initial), "InitialReplicas", "a new revision proves itself with 2"),
        (Bound::Floor(2, FloorReason::FailOpen), "FailOpen", "no activator is ready, so 2 must run"),
        (Bound::Floor(2, FloorReason::Schedule("night".into())), "Schedule", "the schedule night keeps 2"),
        // How fast is no reason of its own.
        (Bound::UpRate(2), "AtZero", "one step goes up to 2 at most"),
        (Bound::DownRate(2), "AtZero", "one step goes down to 2 at most"),
    ];
    for (bound, code, words) in table {
        let reason = Reason { cause: Cause::AtZero { queued: 0 }, bound: Some(bound) };
        assert_eq!(reason.code(), code);
        assert_eq!(reason.to_string(), format!("at zero, and nothing waits; {words}"));
    }
}

#[test]
fn thousandths_show_what_matters() {
    let shown = |milli| Thousandths(milli).to_string();
    assert_eq!(shown(0), "0");
    assert_eq!(shown(50), "0.05");
    assert_eq!(shown(700), "0.7");
    assert_eq!(shown(70_000), "70");
    assert_eq!(shown(12_345), "12.34");
}
