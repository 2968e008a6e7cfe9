//! When a new revision gets the traffic by itself.

use super::*;

/// Traffic has been where it is, and nothing was seen of it.
pub(in crate::status) const NOTHING: TrafficInput<'_> = TrafficInput {
    verdicts: &[],
    current: Some("hello-1"),
    split: &[],
    tags: &[],
    matches: &[],
    rollout: None,
    seen: Seen { completed: 0, errors: 0, slow: 0, lasted: Duration::ZERO },
    now: Timestamp::UNIX_EPOCH,
    promoting: None,
};

#[test]
fn traffic_moves_when_the_new_revision_has_as_many_pods_or_after_a_while() {
    let verdict = |number: u64, ready: i32| Verdict {
        name: names::revision_name("hello", number),
        state: RevisionState::Ready,
        evidence: Evidence { replicas: ready, ready, ..Evidence::default() },
        reason: None,
        number,
        image: String::new(),
    };
    let spec = FunctionSpec::default();
    let decide = |new: i32, waited: u64| {
        let verdicts = [verdict(2, new), verdict(1, 5)];
        let promoting = Some(("hello-2", Duration::from_secs(waited)));
        Traffic::decide(&spec, &TrafficInput { verdicts: &verdicts, current: Some("hello-1"), promoting, ..NOTHING })
    };
    let early = decide(1, 0);
    assert_eq!(early.revision.as_deref(), Some("hello-1"));
    assert_eq!((early.percent("hello-1"), early.percent("hello-2")), (100, 0));
    assert_eq!(early.promotion.unwrap().replicas, 5);
    assert_eq!(decide(5, 0).revision.as_deref(), Some("hello-2"));
    assert_eq!(decide(1, 30).revision.as_deref(), Some("hello-2"));
}
