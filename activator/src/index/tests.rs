//! Objects in, values out.

use super::*;
use crate::index::function::Certainty;
use pilotlight_crds::workload::Protocol;
use serde_json::{Value, json};
use std::time::Duration;

fn function(edit: impl FnOnce(&mut Value)) -> Function {
    let mut object = json!({
        "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function",
        "metadata": {"name": "hello", "namespace": "shop", "generation": 2},
        "spec": {"image": "hello:1"},
        "status": {"observedGeneration": 2, "route": {"port": 12000, "revision": "hello-2"}},
    });
    edit(&mut object);
    serde_json::from_value(object).unwrap()
}

fn pod(edit: impl FnOnce(&mut Value)) -> Pod {
    let mut object = json!({
        "metadata": {"name": "hello-2-abc", "namespace": "shop", "uid": "u1",
            "labels": {"pilotlight.dev/function": "hello", "pilotlight.dev/revision": "hello-2"}},
        "spec": {"containers": [
            {"name": "sidecar", "ports": [{"containerPort": 1}]},
            {"name": "function", "ports": [{"name": "http1", "containerPort": 8080}]},
        ]},
        "status": {"phase": "Running", "podIP": "10.0.0.7"},
    });
    edit(&mut object);
    serde_json::from_value(object).unwrap()
}

fn key() -> FunctionKey {
    FunctionKey::new("shop", "hello")
}

fn view(edit: impl FnOnce(&mut Value)) -> PodView {
    PodView::from_pod(&pod(edit)).unwrap()
}

#[test]
fn a_function_is_read_with_its_defaults() {
    let mut index = Index::default();
    assert_eq!(index.apply_function(&function(|_| {})), Some(key()));
    let config = index.function(&key()).unwrap();
    assert_eq!(config.port, Some(12000));
    assert_eq!(config.revision.as_deref(), Some("hello-2"));
    assert_eq!(config.cold_start_timeout, Duration::from_secs(60));
    assert_eq!(config.request_timeout, Some(Duration::from_secs(300)));
    assert_eq!((config.limit, config.wake_replicas), (0, 1));
    assert_eq!(index.holder(12000), Some(&key()));
}

#[test]
fn zero_means_no_timeout_and_min_replicas_are_woken_together() {
    let config = FunctionConfig::from_function(&function(|f| {
        f["spec"]["timeouts"] = json!({"requestSeconds": 0, "idleStreamSeconds": 7});
        f["spec"]["scaling"] = json!({"minReplicas": 3});
    }))
    .unwrap();
    assert_eq!(config.request_timeout, None);
    assert_eq!(config.idle_stream_timeout, Some(Duration::from_secs(7)));
    assert_eq!(config.wake_replicas, 3);
}

#[test]
fn a_wake_asks_for_what_the_autoscaler_would() {
    for (scaling, replicas) in [
        (json!({"activationReplicas": 4}), 4),
        (json!({"minActiveReplicas": 2, "activationReplicas": 1}), 2),
        (json!({"activationReplicas": 4, "maxReplicas": 3}), 3),
    ] {
        let config = FunctionConfig::from_function(&function(|f| f["spec"]["scaling"] = scaling.clone())).unwrap();
        assert_eq!(config.wake_replicas, replicas, "{scaling}");
    }
}

#[test]
fn a_port_that_two_claim_has_one_holder_whatever_the_order() {
    let other = function(|f| f["metadata"]["name"] = json!("aaa"));
    for order in [[&function(|_| {}), &other], [&other, &function(|_| {})]] {
        let mut index = Index::default();
        for function in order {
            index.apply_function(function);
        }
        assert_eq!(index.holder(12000), Some(&FunctionKey::new("shop", "aaa")));
    }
}

#[test]
fn a_pod_tells_its_own_port_protocol_and_revision() {
    let plain = view(|_| {});
    assert_eq!(plain.address, Some("10.0.0.7:8080".parse().unwrap()));
    assert_eq!((plain.protocol, &*plain.revision), (Protocol::HTTP1, "hello-2"));
    assert_eq!(plain.checks, [ProbeCheck::Tcp { port: 8080 }]);
    let grpc = view(|p| p["spec"]["containers"][1]["ports"][0] = json!({"name": "h2c", "containerPort": 50051}));
    assert_eq!((grpc.protocol, grpc.address), (Protocol::H2C, Some("10.0.0.7:50051".parse().unwrap())));
    let v6 = view(|p| p["status"]["podIP"] = json!("fd00::7"));
    assert_eq!(v6.address, Some("[fd00::7]:8080".parse().unwrap()));
}

#[test]
fn probes_become_checks_that_can_be_run_from_outside() {
    let checks = view(|p| {
        let container = &mut p["spec"]["containers"][1];
        container["startupProbe"] = json!({"tcpSocket": {"port": "http1"}});
        container["readinessProbe"] = json!({"timeoutSeconds": 3, "httpGet":
            {"path": "/ready?deep=1", "port": 9000, "httpHeaders": [{"name": "X-Probe", "value": "1"}]}});
    })
    .checks;
    let http = ProbeCheck::Http {
        port: 9000,
        path: "/ready?deep=1".into(),
        headers: vec![("X-Probe".into(), "1".into())],
        timeout: Duration::from_secs(3),
    };
    assert_eq!(checks, [ProbeCheck::Tcp { port: 8080 }, http]);
    for only_kubelet in [
        json!({"exec": {"command": ["true"]}}),
        json!({"grpc": {"port": 8080}}),
        json!({"httpGet": {"path": "/", "port": 8443, "scheme": "HTTPS"}}),
        json!({"httpGet": {"path": "/", "port": "no-such-port"}}),
    ] {
        let checks = view(|p| p["spec"]["containers"][1]["readinessProbe"] = only_kubelet).checks;
        assert_eq!(checks, [ProbeCheck::Kubernetes]);
    }
}

#[test]
fn odd_pods_are_left_alone() {
    let mut index = Index::default();
    for odd in [
        pod(|p| p["metadata"]["labels"] = json!({})),
        pod(|p| p["spec"]["containers"][1]["name"] = json!("other")),
        pod(|p| p["spec"]["containers"][1]["ports"] = json!([])),
    ] {
        assert_eq!(index.apply_pod(&odd), None);
    }
    let no_ip = pod(|p| p["status"] = json!({"phase": "Pending"}));
    assert_eq!(index.apply_pod(&no_ip), Some(key()));
    assert_eq!(index.pods(&key())[0].address, None);
}

#[test]
fn a_fresh_list_removes_only_what_it_does_not_show() {
    let mut index = Index::default();
    index.apply_function(&function(|_| {}));
    index.apply_pod(&pod(|_| {}));
    index.apply_pod(&pod(|p| p["metadata"]["uid"] = json!("u2")));
    assert_eq!(index.retain_pods(&HashSet::from([Arc::from("u2")])), HashSet::from([key()]));
    assert_eq!(index.pods(&key()).len(), 1);
    assert_eq!(index.retain_functions(&HashSet::from([key()])), []);
    assert_eq!(index.retain_functions(&HashSet::new()), [key()]);
    assert!(index.function(&key()).is_none());
}

#[test]
fn a_list_of_labelled_pods_says_nothing_about_those_of_an_adopted_deployment() {
    let mut index = Index::default();
    index.apply_function(&function(|f| {
        f["spec"] = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}});
    }));
    for uid in ["u1", "u2", "u3"] {
        index.apply_pod(&pod(|p| p["metadata"]["uid"] = json!(uid)));
    }
    assert_eq!(index.retain_pods(&HashSet::new()), HashSet::new());
    assert_eq!(index.pods(&key()).len(), 3);
    assert!(index.retain_pods_of(&key(), &HashSet::from([Arc::from("u1"), Arc::from("u2")])));
    assert!(!index.retain_pods_of(&key(), &HashSet::from([Arc::from("u1"), Arc::from("u2")])), "nothing new");
    assert!(index.forget_pod(&key(), "u1") && !index.forget_pod(&key(), "u1"));
    assert_eq!(index.pods(&key()).len(), 1);
    assert!(!index.retain_pods_of(&FunctionKey::new("shop", "other"), &HashSet::new()));
}

fn unpullable(p: &mut Value) {
    p["status"] = json!({"phase": "Pending", "containerStatuses": [{
        "name": "function", "ready": false, "restartCount": 0, "image": "", "imageID": "",
        "state": {"waiting": {"reason": "InvalidImageName", "message": "bad"}},
    }]});
}

#[test]
fn causes_are_certain_only_while_every_pod_shows_them() {
    let mut index = Index::default();
    index.apply_function(&function(|_| {}));
    assert_eq!(index.cause(&key()), None);
    index.apply_pod(&pod(unpullable));
    let cause = index.cause(&key()).unwrap();
    assert_eq!((cause.reason.as_str(), cause.certainty), ("InvalidImageName", Certainty::Certain));
    index.apply_pod(&pod(|p| p["metadata"]["uid"] = json!("u2")));
    assert_eq!(index.cause(&key()).unwrap().certainty, Certainty::Healing, "another pod may start");
}

#[test]
fn the_condition_counts_only_for_the_present_generation_and_without_better_knowledge() {
    let failing = |observed: i64| {
        function(|f| {
            f["status"]["observedGeneration"] = json!(observed);
            f["status"]["conditions"] = json!([{"type": "WorkloadReady", "status": "False", "reason": "QuotaExceeded",
                "message": "m", "lastTransitionTime": "2024-01-01T00:00:00Z"}]);
        })
    };
    let mut index = Index::default();
    let mut older_is_active = failing(2);
    older_is_active.status.as_mut().unwrap().latest_created_revision = Some("hello-3".into());
    index.apply_function(&older_is_active);
    assert_eq!(index.cause(&key()), None, "it speaks of a newer revision than the one that gets the traffic");
    index.apply_function(&failing(1));
    assert_eq!(index.cause(&key()), None, "it speaks of an older spec");
    index.apply_function(&failing(2));
    assert_eq!(index.cause(&key()).unwrap().certainty, Certainty::Reported);
    index.apply_pod(&pod(|_| {}));
    assert_eq!(index.cause(&key()).unwrap().certainty, Certainty::Healing, "a pod is starting");
    let mut aborted = failing(2);
    aborted.status.as_mut().unwrap().conditions[0].reason = "RolloutAborted".into();
    let mut index = Index::default();
    index.apply_function(&aborted);
    assert_eq!(index.cause(&key()), None, "it starts; whoever names it waits for it");
}

#[test]
fn the_condition_counts_for_the_newest_revision_alone_where_several_share_the_traffic() {
    let config = FunctionConfig::from_function(&function(|f| {
        f["status"]["latestCreatedRevision"] = json!("hello-3");
        f["status"]["route"]["split"] =
            json!([{"revision": "hello-2", "percent": 90}, {"revision": "hello-3", "percent": 10}]);
        f["status"]["conditions"] = json!([{"type": "WorkloadReady", "status": "False", "reason": "QuotaExceeded",
            "message": "m", "lastTransitionTime": "2024-01-01T00:00:00Z"}]);
    }));
    let config = Arc::new(config.unwrap());
    let cause = |revision: &str| function::cause(&config.of_revision(Some(&revision.into())), &[]);
    assert_eq!(cause("hello-2"), None);
    assert_eq!(cause("hello-3").unwrap().certainty, Certainty::Reported);
}

#[test]
fn shares_are_read_each_once_and_the_main_one_first() {
    let portions = |split: Value| {
        let config = FunctionConfig::from_function(&function(|f| f["status"]["route"]["split"] = split)).unwrap();
        assert!(config.split.is_empty() || config.split[..] == config.portions());
        let portions = config.portions().into_iter().map(|portion| (portion.revision.to_string(), portion.percent));
        portions.collect::<Vec<_>>()
    };
    let part = |revision: &str, percent: u32| json!({"revision": revision, "percent": percent});
    let read = |revision: &str, percent: u32| (revision.to_owned(), percent);
    assert_eq!(portions(json!([])), [read("hello-2", 100)]);
    let two = json!([part("hello-1", 40), part("hello-2", 30), part("hello-3", 0), part("hello-1", 30)]);
    assert_eq!(portions(two), [read("hello-2", 30), read("hello-1", 70)]);
    let odd = json!([part("hello-1", 0), part("hello-2", 100)]);
    assert_eq!(portions(odd), [read("hello-2", 100)], "one is no split");
    let mut routeless = function(|_| {});
    routeless.status = None;
    assert_eq!(FunctionConfig::from_function(&routeless).unwrap().portions(), []);
}

#[test]
fn a_reported_probe_never_ends_a_wait() {
    let mut index = Index::default();
    index.apply_function(&function(|f| {
        f["status"]["conditions"] = json!([{"type": "WorkloadReady", "status": "False", "reason": "ProbeFailing",
            "message": "m", "lastTransitionTime": "2024-01-01T00:00:00Z"}]);
    }));
    assert_eq!(index.cause(&key()).unwrap().certainty, Certainty::Healing, "also before the pod was seen here");
}

#[test]
fn pods_of_other_revisions_say_nothing_about_the_active_one() {
    let mut index = Index::default();
    index.apply_function(&function(|_| {}));
    index.apply_pod(&pod(|p| {
        unpullable(p);
        p["metadata"]["labels"]["pilotlight.dev/revision"] = json!("hello-1");
    }));
    assert_eq!(index.cause(&key()), None);
}

#[test]
fn what_a_tag_or_a_rule_leads_to_gets_requests_without_a_share() {
    let read = |edit: &dyn Fn(&mut Value)| {
        let config = FunctionConfig::from_function(&function(|f| {
            f["status"]["route"]["tags"] = json!([
                {"tag": "old", "revision": "hello-1", "url": ""}, {"tag": "new", "revision": "hello-2", "url": ""},
            ]);
            f["status"]["route"]["matches"] = json!([{"revision": "hello-3", "matches": [{"path": {"value": "/3"}}]}]);
            edit(f);
        }))
        .unwrap();
        let portions = config.portions().into_iter().map(|portion| (portion.revision.to_string(), portion.percent));
        (portions.collect::<Vec<_>>(), config)
    };
    let part = |revision: &str, percent: u32| (revision.to_owned(), percent);
    let (portions, config) = read(&|_| {});
    assert_eq!(portions, [part("hello-2", 100), part("hello-1", 0), part("hello-3", 0)]);
    let hosts = config.directions.tags.iter().map(|tag| &*tag.host);
    assert_eq!(hosts.collect::<Vec<_>>(), ["old-hello.shop", "new-hello.shop"]);
    let shares = json!([{"revision": "hello-3", "percent": 60}, {"revision": "hello-2", "percent": 40}]);
    let (portions, _) = read(&|f| f["status"]["route"]["split"] = shares.clone());
    assert_eq!(portions, [part("hello-2", 40), part("hello-3", 60), part("hello-1", 0)]);
    let (portions, config) = read(&|f| {
        f["status"]["route"]["tags"] = json!([{"tag": "new", "revision": "hello-2", "url": ""}]);
        f["status"]["route"]["matches"] = json!([]);
    });
    assert_eq!((portions, config.split.len()), (vec![part("hello-2", 100)], 0), "one revision is no split");
    let (portions, _) = read(&|f| f["status"]["route"]["revision"] = Value::Null);
    assert_eq!(portions, [], "while nobody has the traffic, nothing is led anywhere");
}

#[test]
fn a_name_that_two_tags_make_has_one_holder_whatever_the_order() {
    let with_tag = |name: &str, tag: &str| {
        function(|f| {
            f["metadata"]["name"] = json!(name);
            f["status"]["route"]["tags"] = json!([{"tag": tag, "revision": format!("{name}-1"), "url": ""}]);
        })
    };
    let (long, short) = (with_tag("b-c", "a"), with_tag("c", "a-b"));
    for order in [[&long, &short], [&short, &long]] {
        let mut index = Index::default();
        order.iter().for_each(|function| drop(index.apply_function(function)));
        let holder =
            |index: &Index| index.tag_holder("a-b-c.shop").map(|(key, tag)| (key.name.to_string(), tag.to_string()));
        assert_eq!(holder(&index), Some(("b-c".into(), "a".into())));
        index.delete_function(&long);
        assert_eq!(holder(&index), Some(("c".into(), "a-b".into())));
        index.apply_function(&with_tag("c", "z"));
        assert_eq!(holder(&index), None);
    }
}

#[test]
fn what_is_slow_and_who_stays_where_is_the_authors_word() {
    let config = |spec: Value| FunctionConfig::from_function(&function(|f| f["spec"] = spec)).unwrap();
    let spec = json!({"image": "a", "sticky": {"header": "x-user"},
        "rollout": {"strategy": "Gradual", "abortOn": {"latencyP99Seconds": 0.25}}});
    let both = config(spec);
    assert_eq!(both.slow_after, Some(Duration::from_millis(250)));
    assert!(both.directions.sticky.is_some());
    let errors = config(json!({"image": "a", "rollout": {"strategy": "Gradual", "abortOn": {"errorPercent": 1}}}));
    assert_eq!((errors.slow_after, &errors.directions.sticky), (None, &None));
}
