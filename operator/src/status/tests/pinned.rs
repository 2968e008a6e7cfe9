//! A revision that the author names in `spec.traffic`.

use super::*;
use pilotlight_crds::traffic::TrafficTarget;

use crate::status::traffic::{PROMOTION_PATIENCE, Pin, Promotion};

fn pin(name: &str) -> FunctionSpec {
    let traffic = vec![TrafficTarget { revision_name: Some(name.to_owned()), ..TrafficTarget::default() }];
    FunctionSpec { traffic, ..FunctionSpec::default() }
}

fn verdict(number: u64, state: RevisionState, ready: i32) -> Verdict {
    Verdict {
        name: names::revision_name("hello", number),
        state,
        evidence: Evidence { replicas: ready, ready, ..Evidence::default() },
        reason: (state == RevisionState::Failed).then(|| "CrashLoop".to_owned()),
        number,
        image: String::new(),
    }
}

const CALM: TrafficInput<'_> = TrafficInput { verdicts: &[], current: Some("hello-3"), promoting: None };

#[test]
fn it_gets_the_traffic_at_once_and_then_the_pods_that_the_other_had() {
    let decide = |ready: i32, current: &str, promoting| {
        let verdicts = [verdict(3, RevisionState::Ready, 4), verdict(1, RevisionState::Ready, ready)];
        Traffic::decide(&pin("hello-1"), &TrafficInput { verdicts: &verdicts, current: Some(current), promoting })
    };
    let for_four = Some(Promotion { revision: "hello-1".to_owned(), replicas: 4 });
    let seconds = |n| Some(("hello-1", Duration::from_secs(n)));
    for (ready, current, promoting, promotion) in [
        (0, "hello-3", None, for_four.clone()),
        (0, "hello-3", Some(("hello-2", PROMOTION_PATIENCE)), for_four.clone()),
        (1, "hello-1", seconds(3), for_four),
        (4, "hello-1", seconds(3), None),
        (1, "hello-1", seconds(30), None),
        // Nobody takes from another: this is the load of a revision that proves itself.
        (1, "hello-1", None, None),
    ] {
        let traffic = decide(ready, current, promoting);
        assert_eq!(traffic.revision.as_deref(), Some("hello-1"), "{current} {promoting:?}");
        assert_eq!(traffic.promotion, promotion, "{ready} ready, {current}, {promoting:?}");
        assert_eq!(traffic.pin, Some(Pin::Held("hello-1".to_owned())));
    }
}

#[test]
fn traffic_stays_where_it_is_while_the_one_that_is_named_cannot_have_it() {
    let all = [
        verdict(4, RevisionState::Ready, 0),
        verdict(3, RevisionState::Ready, 1),
        verdict(2, RevisionState::Pending, 0),
        verdict(1, RevisionState::Failed, 0),
    ];
    let decide = |name: &str| Traffic::decide(&pin(name), &TrafficInput { verdicts: &all, ..CALM });
    let failed = Pin::Failed("hello-1".to_owned(), Some("CrashLoop".to_owned()));
    let proof = Promotion { revision: "hello-2".to_owned(), replicas: 1 };
    for (name, pin, promotion) in [
        ("hello-1", failed, None),
        ("hello-2", Pin::Proving("hello-2".to_owned()), Some(proof)),
        ("hello-9", Pin::Missing("hello-9".to_owned()), None),
    ] {
        let traffic = decide(name);
        assert_eq!(traffic.revision.as_deref(), Some("hello-3"), "{name}");
        assert_eq!((traffic.pin, traffic.promotion), (Some(pin), promotion), "{name}");
    }
    // What has it keeps it, if that was the author's choice: its next request tries again.
    let broken = TrafficInput { verdicts: &all, current: Some("hello-1"), promoting: None };
    assert_eq!(Traffic::decide(&pin("hello-1"), &broken).revision.as_deref(), Some("hello-1"));
    // Nobody has it yet: as if nobody were named.
    let new = TrafficInput { verdicts: &all, current: None, promoting: None };
    assert_eq!(Traffic::decide(&pin("hello-9"), &new).revision.as_deref(), Some("hello-4"));
}

#[test]
fn one_that_starts_at_its_first_request_gets_it() {
    let verdicts = [verdict(3, RevisionState::Ready, 0), verdict(2, RevisionState::Pending, 0)];
    let mut spec = pin("hello-2");
    spec.scaling.initial_replicas = 0;
    let traffic = Traffic::decide(&spec, &TrafficInput { verdicts: &verdicts, ..CALM });
    assert_eq!(traffic.revision.as_deref(), Some("hello-2"));
}

#[test]
fn the_status_tells_whether_it_is_so_and_what_helps() {
    let mut s = Situation::new();
    s.set_pod("hello-1", ready_pod());
    s.look();
    s.add_revision(2);
    s.set_pod("hello-2", ready_pod());
    s.look();
    let mut said = |name: &str| {
        s.function.spec.traffic = pin(name).traffic;
        let status = s.look();
        let of = |type_| get(&status.conditions, type_).map(|c| (c.status.clone(), c.reason.clone()));
        let message = condition(&status, condition::TRAFFIC_READY).message.clone();
        let all = [of(condition::TRAFFIC_READY), of(condition::READY), of(condition::STALLED)];
        let words = all.map(|say| say.map_or("-".to_owned(), |(status, reason)| format!("{status}/{reason}")));
        (status.route.unwrap().revision.unwrap(), words.join(" "), message)
    };
    let (revision, words, message) = said("hello-1");
    assert_eq!((revision.as_str(), words.as_str()), ("hello-1", "True/RevisionPinned True/Available -"));
    assert_eq!(message, "Revision hello-1 has the traffic, as spec.traffic says; the newest is hello-2");
    let (revision, words, message) = said("hello-9");
    let expected = "False/RevisionMissing False/RevisionMissing True/RevisionMissing";
    assert_eq!((revision.as_str(), words.as_str()), ("hello-1", expected));
    assert_eq!(
        message,
        "spec.traffic names revision hello-9, which does not exist: traffic stays with hello-1; name another revision of status.revisions, or remove spec.traffic"
    );
    s.function.spec.traffic.clear();
    let status = s.look();
    assert_eq!(status.route.as_ref().and_then(|route| route.revision.as_deref()), Some("hello-2"));
    assert!(get(&status.conditions, condition::TRAFFIC_READY).is_none());
    assert_eq!(condition(&status, condition::READY).status, "True");
}
