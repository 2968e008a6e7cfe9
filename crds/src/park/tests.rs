//! What a pod shows of its parking, in each state that a swap or a crash can leave it in; and which shapes forbid it.

use super::*;

const FUNCTION: &str = "registry.test:5000/shop/hello@sha256:aaaa";
const PILOT: &str = "docker.io/library/pilot@sha256:bbbb";

/// A pod whose function's container has this image, and runs that one.
fn pod(image: &str, running: &str, marked: bool, recorded: bool) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "hello-1-x", "uid": "u", "resourceVersion": "7", "labels": {}, "annotations": {}},
        "spec": {"containers": [
            {"name": "function", "image": image, "imagePullPolicy": "IfNotPresent", "env": [{"name": "PORT", "value": "8080"}]},
            {"name": "beacon", "image": "pilot:1"},
        ]},
        "status": {"containerStatuses": [
            {"name": "function", "image": "", "imageID": running, "ready": true, "restartCount": 0, "state": {"running": {}}},
            {"name": "beacon", "image": "", "imageID": PILOT, "ready": true, "restartCount": 0, "state": {"running": {}}},
        ]},
    });
    if marked {
        pod["metadata"]["labels"][LABEL_RUNG] = json!(RUNG_PARKED);
    }
    if recorded {
        pod["metadata"]["annotations"][ANNOTATION_IMAGE] = json!(FUNCTION);
    }
    serde_json::from_value(pod).unwrap()
}

fn parked(turn: u64) -> Pod {
    pod(&tagged(PILOT, turn), PILOT, true, true)
}

#[test]
fn no_reference_comes_twice_on_one_pod() {
    let fresh = pod("registry.test:5000/shop/hello:v1", FUNCTION, false, false);
    let planned = plan(&fresh).unwrap();
    assert_eq!(planned.function, FUNCTION);
    assert_eq!(planned.image, "docker.io/library/pilot:w1@sha256:bbbb");
    assert_eq!(turn(&fresh), 0);
    let parking = Parking::of(&parked(1)).unwrap();
    assert_eq!(parking.end()["spec"]["containers"][0]["image"], "registry.test:5000/shop/hello:w2@sha256:aaaa");
    let back = pod("registry.test:5000/shop/hello:w2@sha256:aaaa", FUNCTION, false, true);
    assert_eq!((turn(&back), parking.turn_after()), (2, 2));
    assert_eq!(plan(&back).unwrap().image, "docker.io/library/pilot:w3@sha256:bbbb");
}

#[test]
fn each_state_that_a_crash_can_leave_tells_what_to_do() {
    let authored = "registry.test:5000/shop/hello:v1";
    assert_eq!(Parking::of(&pod(authored, FUNCTION, false, false)), None, "never parked");
    assert_eq!(Parking::of(&pod(authored, FUNCTION, false, true)), None, "the mark was taken away before the swap");
    let marked = Parking::of(&pod(authored, FUNCTION, true, true)).unwrap();
    assert!(!marked.swapped && !marked.placeholder_runs);
    assert_eq!(
        marked.end(),
        json!({"metadata": {"uid": "u", "resourceVersion": "7", "labels": {LABEL_RUNG: null}}}),
        "a function that runs is not started anew"
    );
    let stopping = Parking::of(&pod(&tagged(PILOT, 1), FUNCTION, true, true)).unwrap();
    assert!(stopping.swapped && !stopping.placeholder_runs, "the function has not ended yet");
    assert!(Parking::of(&parked(1)).unwrap().placeholder_runs);
    let unmarked = pod(&tagged(PILOT, 1), PILOT, false, true);
    assert!(Parking::of(&unmarked).unwrap().swapped, "somebody took the mark away");
    assert_eq!(Parking::of(&pod(&tagged(FUNCTION, 2), PILOT, false, true)), None, "the function is on its way");
}

#[test]
fn the_function_runs_only_where_its_own_image_does() {
    assert!(function_runs(&pod("hello:v1", FUNCTION, false, false)));
    assert!(!function_runs(&parked(1)));
    assert!(!function_runs(&pod(&tagged(FUNCTION, 2), PILOT, false, true)), "the placeholder ends");
    assert!(function_runs(&pod(&tagged(FUNCTION, 2), FUNCTION, false, true)));
}

#[test]
fn who_cannot_be_parked_hears_why() {
    let with = |change: fn(&mut Pod)| {
        let mut pod = pod("hello:v1", FUNCTION, false, false);
        change(&mut pod);
        plan(&pod).unwrap_err()
    };
    assert!(with(|p| function(p).command = Some(vec!["/app".to_owned()])).contains("spec.command"));
    assert!(with(|p| function(p).image_pull_policy = Some("Always".to_owned())).contains("imagePullPolicy"));
    assert!(with(|p| status(p, 0).image_id = "sha256:aaaa".to_owned()).contains("no digest"));
    assert!(with(|p| status(p, 0).image_id = "docker-pullable://hello@sha256:aaaa".to_owned()).contains("no digest"));
    assert!(with(|p| status(p, 1).name = "other".to_owned()).contains("beacon"));
}

fn function(pod: &mut Pod) -> &mut Container {
    &mut pod.spec.as_mut().unwrap().containers[0]
}

fn status(pod: &mut Pod, at: usize) -> &mut ContainerStatus {
    &mut pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[at]
}

#[test]
fn probes_that_no_placeholder_can_answer_forbid_the_rung() {
    let probed = |probe: Value, told: Option<&str>| {
        let mut container = json!({
            "name": "function",
            "env": [{"name": "PORT", "value": "8080"}],
            "ports": [{"name": "http1", "containerPort": 8080}],
            "readinessProbe": probe,
        });
        if let Some(told) = told {
            container["env"].as_array_mut().unwrap().push(json!({"name": ENV_PROBE_PORTS, "value": told}));
        }
        unfit(&serde_json::from_value(container).unwrap())
    };
    assert_eq!(probed(json!({"httpGet": {"port": "http1", "path": "/ready"}}), None), None);
    assert_eq!(probed(json!({"tcpSocket": {"port": 8080}}), None), None);
    assert_eq!(probed(json!({"grpc": {"port": 8081}}), Some("8081,9000")), None);
    let why = |probe: Value| probed(probe, None).unwrap();
    assert!(why(json!({"grpc": {"port": 8081}})).contains("8081"));
    assert!(why(json!({"exec": {"command": ["/ok"]}})).contains("spec.readinessProbe runs a program"));
    assert!(why(json!({"httpGet": {"port": 8080, "scheme": "HTTPS"}})).contains("HTTPS"));
    assert!(why(json!({"tcpSocket": {"port": 8080, "host": "other"}})).contains("another host"));
    assert!(probed(json!({"tcpSocket": {"port": 80}}), Some("80")).unwrap().contains("privilege"));
    assert!(probed(json!({"tcpSocket": {"port": 9095}}), Some("9095")).unwrap().contains("placeholder's own"));
}

#[test]
fn kubernetes_tells_when_a_function_will_not_come_back() {
    use crate::diagnosis::cannot_come_back;
    let shows = |image: &str, state: Value| {
        let mut pod = pod(image, PILOT, false, true);
        let status = &mut pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
        status.ready = false;
        status.state = serde_json::from_value(state).unwrap();
        cannot_come_back(&pod)
    };
    let back = "registry.test:5000/shop/hello:w2@sha256:aaaa";
    let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "i/o timeout"}});
    for reason in
        ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "CreateContainerConfigError", "CrashLoopBackOff"]
    {
        assert!(shows(back, waiting(reason)), "{reason}");
        assert!(!shows(&tagged(PILOT, 1), waiting(reason)), "{reason} of its placeholder");
    }
    for state in [waiting("ContainerCreating"), json!({"running": {}}), json!({"terminated": {"exitCode": 0}})] {
        assert!(!shows(back, state.clone()), "{state}");
    }
    assert!(!shows("hello:v1", waiting("ErrImagePull")), "it was never parked");
}
