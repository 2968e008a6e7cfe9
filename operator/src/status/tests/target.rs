//! What is said of a Function that took over a Deployment.

use super::*;
use pilotlight_crds::target::TargetRef;

fn adopted(applied: Applied) -> (Situation, FunctionStatus) {
    let mut situation = Situation::new();
    situation.function.spec.image.clear();
    situation.function.spec.target_ref = Some(TargetRef::deployment("api"));
    situation.applied = applied;
    let now = Timestamp::from_second(situation.now).unwrap();
    let verdicts = [Verdict::of_target("api", &situation.observed, now)];
    let status = build(&StatusInput {
        function: &situation.function,
        observed: &situation.observed,
        problems: &situation.problems,
        applied: &situation.applied,
        verdicts: &verdicts,
        traffic: &Traffic { revision: Some("api".to_owned()), ..Traffic::default() },
        owner: None,
        contested: &[],
        idle: None,
        rungs_refused: &BTreeMap::new(),
        boost_refused: None,
        domain: None,
        hostnames: &Answer::default(),
        gateway: None,
        now,
    });
    (situation, status)
}

fn said(status: &FunctionStatus, type_: &str) -> Option<(String, String)> {
    get(&status.conditions, type_).map(|c| (c.status.clone(), c.reason.clone()))
}

#[test]
fn at_zero_it_is_ready_without_having_proved_anything() {
    let (_, status) = adopted(applied(Ok(()), Ok(()), routed()));
    let is_true = |reason: &str| Some(("True".to_owned(), reason.to_owned()));
    assert_eq!(said(&status, condition::READY), is_true(condition::AVAILABLE));
    assert_eq!(said(&status, condition::WORKLOAD_READY), is_true(condition::TARGET_ACCEPTED));
    assert_eq!(status.rung, Some(Rung::Zero));
}

#[test]
fn a_refusal_is_why_it_is_not_ready() {
    let refusal = |reason| Err(Refusal { reason, message: "label it".to_owned() });
    for (workload, service, reason) in [
        (refusal(condition::TARGET_MISSING), Ok(()), condition::TARGET_MISSING),
        (Ok(()), refusal(condition::SERVICE_UNFIT), condition::SERVICE_UNFIT),
    ] {
        let (_, status) = adopted(applied(workload, service, Route::Keep));
        assert_eq!(said(&status, condition::READY), Some(("False".to_owned(), reason.to_owned())));
        assert_eq!(said(&status, condition::STALLED), Some(("True".to_owned(), reason.to_owned())));
    }
}
