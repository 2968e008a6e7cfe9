//! Statuses as kubelet, scheduler and API server write them, and what must be said of them.

mod builders;
mod run;
mod start;

use builders::*;
use pilotlight_crds::diagnosis::{Diagnosis, MAX_MESSAGE_BYTES, Reason, diagnose, diagnose_refusal};
use serde_json::{Value, json};

#[test]
fn every_cause_is_named_with_its_remedy() {
    let all = [start::images(), start::starts(), run::crashes(), run::outside()];
    for case in all.into_iter().flatten() {
        let found =
            diagnose(&pod(case.status), &events(case.events)).unwrap_or_else(|| panic!("{}: no diagnosis", case.name));
        assert_eq!(found.reason, case.reason, "{}: {}", case.name, found.message);
        assert_eq!(found.healing, case.healing, "{}: {}", case.name, found.message);
        for words in case.says {
            assert!(found.message.contains(words), "{}: {words:?} is not in {}", case.name, found.message);
        }
    }
}

#[test]
fn what_is_well_or_on_its_way_has_no_diagnosis() {
    let mut going = pod(crashing(json!({"exitCode": 1})));
    going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
    let init_done = json!({
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False"}],
        "initContainerStatuses": [{
            "name": "prepare", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
        }],
    });
    let mut with_init = pod(init_done);
    with_init.spec.as_mut().expect("a spec").init_containers =
        serde_json::from_value(json!([{"name": "prepare"}])).ok();
    for (name, pod) in [
        ("no status", pod(Value::Null)),
        ("just created", pod(json!({"phase": "Pending"}))),
        ("creating", pod(waiting("ContainerCreating", ""))),
        ("running, not ready yet", pod(running(false, json!({})))),
        ("ready after crashes", pod(running(true, json!({"terminated": {"exitCode": 1}})))),
        ("going away", going),
        ("an init container that has done its work", with_init),
    ] {
        assert_eq!(diagnose(&pod, &[]), None, "{name}");
    }
}

#[test]
fn refusals_of_the_api_server() {
    for (message, reason, healing, says) in [
        (
            "pods \"hello-1-6c9f7d-x2x4z\" is forbidden: exceeded quota: memory, requested: requests.memory=128Mi, used: requests.memory=0, limited: requests.memory=64Mi",
            Reason::QuotaExceeded,
            POSSIBLY,
            "raise the quota",
        ),
        (
            "pods \"hello-1-x\" is forbidden: failed quota: memory: must specify limits.memory for: function",
            Reason::QuotaExceeded,
            NO,
            "spec.resources",
        ),
        (
            "pods \"hello-1-x\" is forbidden: violates PodSecurity \"restricted:latest\": privileged (container \"function\" must not set securityContext.privileged=true)",
            Reason::PodSecurityViolation,
            NO,
            "spec.securityContext",
        ),
        (
            "pods \"hello-1-x\" is forbidden: error looking up service account shop/buyer: serviceaccount \"buyer\" not found",
            Reason::ServiceAccountNotFound,
            NO,
            "spec.serviceAccountName",
        ),
        (
            "pods \"hello-1-x\" is forbidden: pod rejected: RuntimeClass \"gvisor\" not found",
            Reason::PodRefused,
            NO,
            "spec.runtimeClassName",
        ),
        (
            "admission webhook \"policy.example.com\" denied the request: images must come from registry.example.com",
            Reason::PodRefused,
            NO,
            "images must come from registry.example.com",
        ),
        (
            "Internal error occurred: failed calling webhook \"policy.example.com\": connection refused",
            Reason::PodRefused,
            POSSIBLY,
            "failed calling webhook",
        ),
    ] {
        let found = diagnose_refusal(message).expect("a diagnosis");
        assert_eq!((found.reason, found.healing), (reason, healing), "{}", found.message);
        assert!(found.message.contains(says), "{}", found.message);
    }
    assert_eq!(diagnose_refusal(" "), None);
}

#[test]
fn messages_are_one_bounded_line_and_keep_the_last_words() {
    let long = format!("{}\nat last: {}", "filler\t\u{1b}[0m\n".repeat(400), "out of cheese 🧀");
    let found = diagnose(&pod(crashing(json!({"exitCode": 1, "message": long}))), &[]).expect("a diagnosis");
    assert!(found.message.len() <= MAX_MESSAGE_BYTES);
    assert!(!found.message.contains(char::is_control), "{}", found.message);
    assert!(found.message.ends_with("at last: out of cheese 🧀"), "{}", found.message);

    let found = diagnose(&pod(waiting("ErrImagePull", &"é".repeat(5000))), &[]).expect("a diagnosis");
    assert!(found.message.len() <= MAX_MESSAGE_BYTES);
    assert!(found.message.ends_with("it is tried again"), "{}", found.message);
}

#[test]
fn the_most_telling_cannot_heal_alone() {
    let of = |reason, healing| Diagnosis::new(reason, healing, "x");
    let all =
        [of(Reason::Unschedulable, POSSIBLY), of(Reason::ContainerCrashed, NO), of(Reason::ImagePullFailed, POSSIBLY)];
    let told = Diagnosis::most_telling(all).expect("there are some");
    assert_eq!(told.reason, Reason::ContainerCrashed);
    assert_eq!(Diagnosis::most_telling([]), None);
}

#[test]
fn the_word_is_the_serialized_name() {
    for reason in [Reason::OOMKilled, Reason::ImagePullFailed, Reason::PodFailed] {
        let serialized = serde_json::to_value(reason).expect("a plain enum");
        assert_eq!(serialized, Value::from(reason.as_str()));
    }
}
