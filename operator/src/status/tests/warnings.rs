//! What is told of a Function that is well: others that write the replicas, a beacon that does not run, host names that it cannot have.

use super::*;
use crate::contention::Field;
use crate::hostnames::Refused;
use crate::ports::Claimant;
use pilotlight_crds::condition::{BEACON_FAILING, BOOST_UNAVAILABLE, HOSTNAMES_READY};
use pilotlight_crds::policy::Beacon;
use serde_json::{Value, json};

#[test]
fn another_writer_of_replicas_is_named_until_it_has_been_quiet_for_a_while() {
    let mut situation = Situation::new();
    situation.set_pod("hello-1", ready_pod());
    let before = situation.look();
    assert_eq!(get(&before.conditions, pilotlight_crds::condition::REPLICAS_CONTESTED), None);

    let deployment = Arc::make_mut(&mut situation.observed.deployments[0]);
    let write = r#"{"manager":"kube-controller-manager","scale":true,"at":"1970-01-01T00:16:35Z","stands":false}"#;
    let cached = [(Field::Replicas.cached().to_owned(), write.to_owned())];
    deployment.metadata.annotations = Some(cached.into());
    let contested = situation.look();
    let said = condition(&contested, pilotlight_crds::condition::REPLICAS_CONTESTED);
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("True", "ForeignWriter"));
    assert!(said.message.contains("HorizontalPodAutoscaler"), "{}", said.message);
    assert_eq!(condition(&contested, "Ready").status, "True", "it is a warning, no failure");

    situation.now += 600;
    assert_eq!(get(&situation.look().conditions, pilotlight_crds::condition::REPLICAS_CONTESTED), None);
}

/// A pod whose function is ready; `state` is its beacon's.
fn pod_with_beacon(state: Value) -> PodStatus {
    let running = json!({"running": {"startedAt": "1970-01-01T00:10:00Z"}});
    let ready = state.get("running").is_some();
    let container = |name: &str, ready: bool, state: &Value| json!({"name": name, "ready": ready, "restartCount": 0, "image": "", "imageID": "", "state": state});
    serde_json::from_value(json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        "containerStatuses": [container("function", true, &running), container("beacon", ready, &state)],
    }))
    .unwrap()
}

#[test]
fn a_beacon_that_does_not_run_is_a_warning_and_the_function_is_ready() {
    let mut situation = Situation::new();
    let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
    situation.set_pod("hello-1", pod_with_beacon(waiting));
    let status = situation.look();
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(status.ready_replicas, 1);
    let said = condition(&status, BEACON_FAILING);
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("True", "ImagePullBackOff"));
    assert!(said.message.contains("no such image"), "{}", said.message);

    // At zero it can still be read; a beacon that runs takes it back.
    situation.observed.status = status;
    situation.observed.pods.clear();
    assert!(get(&situation.look().conditions, BEACON_FAILING).is_some());
    let running = json!({"running": {"startedAt": "1970-01-01T00:10:00Z"}});
    situation.set_pod("hello-1", pod_with_beacon(running));
    assert_eq!(get(&situation.look().conditions, BEACON_FAILING), None);

    situation.observed.pods.clear();
    situation.function.spec.cold_start.beacon = Beacon::Disabled;
    assert_eq!(get(&situation.look().conditions, BEACON_FAILING), None, "nobody wants one any more");
}

#[test]
fn a_boost_that_the_api_server_refuses_is_said_where_the_author_asked_for_it() {
    let mut situation = Situation::new();
    situation.refused.insert(ScalingRung::Throttled, "this cluster cannot resize running pods".to_owned());
    assert_eq!(get(&situation.look().conditions, BOOST_UNAVAILABLE), None, "nobody asked for it");
    situation.function.spec.cold_start.cpu_boost = Some("2".to_owned());
    let refused = situation.look();
    let said = condition(&refused, BOOST_UNAVAILABLE);
    assert!(said.message.contains("spec.coldStart.cpuBoost: this cluster cannot resize"), "{}", said.message);
    situation.refused.clear();
    assert_eq!(get(&situation.look().conditions, BOOST_UNAVAILABLE), None);
}

#[test]
fn what_became_of_host_names_is_said_and_does_not_make_the_function_unready() {
    let mut situation = Situation::new();
    situation.set_pod("hello-1", ready_pod());
    let said = |situation: &mut Situation| {
        let status = situation.look();
        assert_eq!(condition(&status, "Ready").status, "True");
        assert_eq!(status.hostnames, situation.hostnames.held);
        let said = get(&status.conditions, HOSTNAMES_READY)?;
        Some(format!("{}/{}: {}", said.status, said.reason, said.message))
    };
    assert_eq!(said(&mut situation), None);
    situation.hostnames.held = vec!["www.example.com".to_owned()];
    let held = "True/HostnamesHeld: www.example.com leads to the Function";
    assert_eq!(said(&mut situation).as_deref(), Some(held));
    let holder = Claimant { created: None, namespace: "web".to_owned(), name: "site".to_owned(), uid: "u".to_owned() };
    situation.hostnames.taken = vec![("api.example.com".to_owned(), holder)];
    let taken = said(&mut situation).unwrap();
    let words = "False/HostnameTaken: api.example.com is that of the Function site in namespace web, ";
    assert!(taken.starts_with(words) && taken.ends_with("; www.example.com leads to the Function"), "{taken}");
    situation.hostnames.refused = vec![("x.example.org".to_owned(), Refused::NotAllowed)];
    let refused = said(&mut situation).unwrap();
    assert!(
        refused.starts_with("False/HostnameNotAllowed: x.example.org is not this namespace's to have"),
        "{refused}"
    );
    situation.hostnames = Answer::default();
    assert_eq!(said(&mut situation), None);
}
