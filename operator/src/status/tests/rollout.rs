//! What the status says of a rollout in steps, of tags, and of where the Function answers.

use super::*;
use pilotlight_crds::rollout::{AbortOn, Rollout, RolloutStrategy};
use pilotlight_crds::routing::Visibility;
use serde_json::json;

/// Its second revision has half of the traffic.
fn half_way() -> Situation {
    let mut s = Situation::new();
    s.function.spec.rollout = Some(Rollout {
        strategy: RolloutStrategy::Gradual,
        step_percent: 50,
        interval_seconds: 60,
        abort_on: Some(AbortOn { error_percent: Some(5), latency_p99_seconds: None }),
    });
    // It needs no more pods for the other half.
    s.function.spec.scaling.max_replicas = 1;
    s.set_pod("hello-1", ready_pod());
    s.look();
    s.add_revision(2);
    s.set_pod("hello-2", ready_pod());
    s.look();
    s
}

#[test]
fn a_rollout_says_how_far_it_is_and_ends() {
    let mut s = half_way();
    let status = s.observed.status.clone();
    assert_eq!(status.rollout.as_ref().map(|rollout| rollout.percent), Some(50));
    assert_eq!(status.route.as_ref().unwrap().split.len(), 2);
    let reconciling = get(&status.conditions, condition::RECONCILING).unwrap();
    assert_eq!(reconciling.reason, conditions::ROLLING_OUT);
    assert!(reconciling.message.contains("hello-2 has 50 %"), "{}", reconciling.message);
    assert_eq!(get(&status.conditions, condition::READY).unwrap().status, "True");
    s.seen.lasted = Duration::from_secs(60);
    let done = s.look();
    assert_eq!((done.rollout, done.route.unwrap().revision.as_deref()), (None, Some("hello-2")));
    assert!(get(&done.conditions, condition::RECONCILING).is_none());
}

#[test]
fn an_aborted_rollout_is_a_failure_that_stays_and_says_why() {
    let mut s = half_way();
    s.seen = Seen { completed: 100, errors: 20, slow: 0, lasted: Duration::from_secs(2) };
    for look in 0..3 {
        let status = s.look();
        assert_eq!(status.rollout, None);
        let route = status.route.unwrap();
        assert_eq!((route.revision.as_deref(), route.split.len()), (Some("hello-1"), 0));
        assert_eq!(status.latest_ready_revision.as_deref(), Some("hello-1"));
        let line = &status.revisions[0];
        assert_eq!((line.state, line.reason.as_deref()), (RevisionState::Failed, Some(condition::ROLLOUT_ABORTED)));
        for type_ in [condition::READY, condition::WORKLOAD_READY, condition::STALLED] {
            let found = get(&status.conditions, type_).unwrap();
            assert_eq!(found.reason, condition::ROLLOUT_ABORTED, "{type_}, look {look}");
            assert!(found.message.contains("20 of 100 requests failed"), "{}", found.message);
        }
        let ready = get(&status.conditions, condition::READY).unwrap();
        assert!(ready.message.ends_with("(revision hello-1 still answers)"), "{}", ready.message);
        s.now += 100;
        s.seen = Seen::default();
        if look == 1 {
            s.remove_pods("hello-2");
        }
    }
}

#[test]
fn tags_and_matches_are_told_with_their_revisions_and_stay_while_a_wish_cannot_be_granted() {
    let mut s = Situation::new();
    s.set_pod("hello-1", ready_pod());
    s.look();
    s.add_revision(2);
    s.set_pod("hello-2", ready_pod());
    let traffic = json!([
        {"revisionName": "hello-1", "percent": 100, "tag": "stable"},
        {"latestRevision": true, "tag": "next", "matches": [{"headers": [{"name": "x-beta"}]}]},
    ]);
    s.function.spec.traffic = serde_json::from_value(traffic).unwrap();
    let route = s.look().route.unwrap();
    let tags: Vec<_> = route.tags.iter().map(|tag| (&*tag.tag, &*tag.revision, &*tag.url)).collect();
    let expected =
        [("stable", "hello-1", "http://stable-hello.shop.svc"), ("next", "hello-2", "http://next-hello.shop.svc")];
    assert_eq!(tags, expected);
    assert_eq!((route.matches.len(), route.matches[0].revision.as_str()), (1, "hello-2"));
    assert_eq!((route.revision.as_deref(), route.split.len()), (Some("hello-1"), 0));
    let missing = json!([
        {"revisionName": "hello-1", "percent": 100},
        {"revisionName": "hello-9", "tag": "old"},
    ]);
    s.function.spec.traffic = serde_json::from_value(missing).unwrap();
    let status = s.look();
    assert_eq!(get(&status.conditions, condition::TRAFFIC_READY).unwrap().reason, condition::REVISION_MISSING);
    assert_eq!(status.route.unwrap().tags, route.tags, "as it was");
    s.function.spec.traffic = serde_json::from_value(json!([{"latestRevision": true, "tag": "next"}])).unwrap();
    let route = s.look().route.unwrap();
    assert_eq!((route.revision.as_deref(), route.tags.len()), (Some("hello-2"), 1), "a tag names no revision");
    s.applied.tags = Err(Refusal { reason: condition::NAME_TAKEN, message: "words".to_owned() });
    let status = s.look();
    assert_eq!(get(&status.conditions, condition::TRAFFIC_READY).unwrap().reason, condition::NAME_TAKEN);
    assert_eq!(get(&status.conditions, condition::READY).unwrap().reason, condition::NAME_TAKEN);
}

#[test]
fn the_address_is_the_domain_s_where_there_is_one_and_it_may_be_reached_from_outside() {
    let mut s = Situation::new();
    assert_eq!(s.look().url.as_deref(), Some("http://hello.shop.svc"));
    s.domain = Some("example.com");
    assert_eq!(s.look().url.as_deref(), Some("http://hello.shop.example.com"));
    s.function.spec.visibility = Visibility::Cluster;
    assert_eq!(s.look().url.as_deref(), Some("http://hello.shop.svc"));
}
