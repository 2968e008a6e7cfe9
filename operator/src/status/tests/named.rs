//! Revisions that the author names in `spec.traffic`.

use super::*;
use pilotlight_crds::status::RouteShare;
use pilotlight_crds::traffic::TrafficTarget;

use crate::status::traffic::{PROMOTION_PATIENCE, Promotion, Wish};

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

fn share(number: u64, percent: u32) -> RouteShare {
    RouteShare { revision: names::revision_name("hello", number), percent }
}

/// `None` in place of a number is the newest.
fn split(parts: &[(Option<u64>, u32)]) -> FunctionSpec {
    let target = |(number, percent): &(Option<u64>, u32)| TrafficTarget {
        revision_name: number.map(|number| names::revision_name("hello", number)),
        latest_revision: number.is_none(),
        percent: Some(*percent),
        ..TrafficTarget::default()
    };
    FunctionSpec { traffic: parts.iter().map(target).collect(), ..FunctionSpec::default() }
}

const CALM: TrafficInput<'_> = TrafficInput { current: Some("hello-3"), ..NOTHING };

#[test]
fn it_gets_the_traffic_at_once_and_then_the_pods_that_the_other_had() {
    let decide = |ready: i32, current: &str, promoting| {
        let verdicts = [verdict(3, RevisionState::Ready, 4), verdict(1, RevisionState::Ready, ready)];
        let input = TrafficInput { verdicts: &verdicts, current: Some(current), promoting, ..CALM };
        Traffic::decide(&pin("hello-1"), &input)
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
        assert_eq!((traffic.wish, traffic.split.len()), (Some(Wish::Granted), 0));
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
    let failed = Wish::Failed("hello-1".to_owned(), Some("CrashLoop".to_owned()));
    let proof = Promotion { revision: "hello-2".to_owned(), replicas: 1 };
    for (name, wish, promotion) in [
        ("hello-1", failed, None),
        ("hello-2", Wish::Proving("hello-2".to_owned()), Some(proof)),
        ("hello-9", Wish::Missing("hello-9".to_owned()), None),
    ] {
        let traffic = decide(name);
        assert_eq!(traffic.revision.as_deref(), Some("hello-3"), "{name}");
        assert_eq!((traffic.wish, traffic.promotion), (Some(wish), promotion), "{name}");
    }
    // What has it keeps it, if that was the author's choice: its next request tries again.
    let broken = TrafficInput { verdicts: &all, current: Some("hello-1"), ..CALM };
    assert_eq!(Traffic::decide(&pin("hello-1"), &broken).revision.as_deref(), Some("hello-1"));
    // Nobody has it yet: as if nobody were named.
    let new = TrafficInput { verdicts: &all, current: None, ..CALM };
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

#[test]
fn it_is_shared_as_the_author_says_the_largest_part_first() {
    let all =
        [verdict(4, RevisionState::Ready, 0), verdict(3, RevisionState::Ready, 1), verdict(2, RevisionState::Ready, 0)];
    let decide = |parts: &[(Option<u64>, u32)]| {
        let traffic = Traffic::decide(&split(parts), &TrafficInput { verdicts: &all, ..CALM });
        assert_eq!(traffic.wish, Some(Wish::Granted));
        assert_eq!(
            traffic.promotion.is_some(),
            traffic.split.is_empty() && traffic.revision.as_deref() != Some("hello-3")
        );
        (traffic.revision.unwrap(), traffic.split)
    };
    type Row = (&'static [(Option<u64>, u32)], &'static str, Vec<RouteShare>);
    let table: [Row; 6] = [
        (&[(Some(3), 90), (None, 10)], "hello-3", vec![share(3, 90), share(4, 10)]),
        (&[(Some(3), 1), (Some(4), 99)], "hello-4", vec![share(4, 99), share(3, 1)]),
        // What has most of it already stays the first among equals.
        (&[(Some(4), 50), (Some(3), 50)], "hello-3", vec![share(3, 50), share(4, 50)]),
        // The same one by two names; one that is named for nothing.
        (&[(Some(4), 30), (None, 30), (Some(3), 40)], "hello-4", vec![share(4, 60), share(3, 40)]),
        (&[(Some(3), 100), (Some(9), 0)], "hello-3", vec![]),
        (&[(Some(2), 100), (None, 0)], "hello-2", vec![]),
    ];
    for (parts, first, shares) in table {
        assert_eq!(decide(parts), (first.to_owned(), shares), "{parts:?}");
    }
}

#[test]
fn it_is_shared_as_a_whole_or_stays_as_it_was() {
    let all = [
        verdict(4, RevisionState::Failed, 0),
        verdict(3, RevisionState::Ready, 1),
        verdict(2, RevisionState::Ready, 1),
    ];
    let before = [share(3, 70), share(2, 30)];
    let input = TrafficInput { verdicts: &all, split: &before, ..CALM };
    let refused = Traffic::decide(&split(&[(Some(2), 50), (Some(4), 50)]), &input);
    assert_eq!((refused.revision.as_deref(), refused.split.as_slice()), (Some("hello-3"), before.as_slice()));
    assert_eq!(refused.wish, Some(Wish::Failed("hello-4".to_owned(), Some("CrashLoop".to_owned()))));
    // What gets a part of it keeps its right to one when it fails.
    let has_some = [share(3, 70), share(4, 30)];
    let input = TrafficInput { verdicts: &all, split: &has_some, ..CALM };
    let again = Traffic::decide(&split(&[(Some(4), 60), (Some(3), 40)]), &input);
    assert_eq!((again.revision.as_deref(), again.split), (Some("hello-4"), vec![share(4, 60), share(3, 40)]));
    // Nobody is named any more: the newest that proved itself has all of it.
    let newest = Traffic::decide(&FunctionSpec::default(), &TrafficInput { verdicts: &all, split: &before, ..CALM });
    assert_eq!((newest.revision.as_deref(), newest.split.len()), (Some("hello-3"), 0));
}

#[test]
fn a_part_that_becomes_all_of_it_gets_the_pods_for_that() {
    let all = [verdict(4, RevisionState::Ready, 1), verdict(3, RevisionState::Ready, 5)];
    let before = [share(3, 90), share(4, 10)];
    let traffic = Traffic::decide(&pin("hello-4"), &TrafficInput { verdicts: &all, split: &before, ..CALM });
    let for_five = Promotion { revision: "hello-4".to_owned(), replicas: 5 };
    assert_eq!((traffic.revision.as_deref(), traffic.promotion), (Some("hello-4"), Some(for_five)));
}

#[test]
fn the_status_tells_who_gets_what() {
    let mut s = Situation::new();
    s.set_pod("hello-1", ready_pod());
    s.look();
    s.add_revision(2);
    s.set_pod("hello-2", ready_pod());
    s.look();
    s.function.spec.traffic = split(&[(Some(1), 90), (None, 10)]).traffic;
    let status = s.look();
    let told = condition(&status, condition::TRAFFIC_READY);
    assert_eq!(
        (told.reason.as_str(), told.message.as_str()),
        (condition::TRAFFIC_SPLIT, "The traffic goes to hello-1 (90 %), hello-2 (10 %)")
    );
    assert_eq!(status.route.unwrap().split, [share(1, 90), share(2, 10)]);
    s.function.spec.traffic = split(&[(Some(1), 90), (Some(7), 10)]).traffic;
    let status = s.look();
    let told = condition(&status, condition::TRAFFIC_READY);
    assert!(
        told.message.contains("hello-7, which does not exist: traffic stays with hello-1 (90 %), hello-2 (10 %)"),
        "{}",
        told.message
    );
    assert_eq!(status.route.unwrap().split, [share(1, 90), share(2, 10)]);
}
