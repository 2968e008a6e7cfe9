//! Who else writes a field, as managed fields and the cache tell of it.

use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, Time};
use pilotlight_crds::Function;
use pilotlight_crds::names::{MANAGER_ACTIVATOR, MANAGER_AUTOSCALER, MANAGER_OPERATOR};
use serde_json::{Value, json};

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn entry(manager: &str, subresource: Option<&str>, at: i64, fields: Value) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        subresource: subresource.map(str::to_owned),
        time: Some(Time(second(at))),
        fields_v1: Some(FieldsV1(fields)),
        ..ManagedFieldsEntry::default()
    }
}

fn replicas() -> Value {
    json!({"f:spec": {"f:replicas": {}}})
}

/// The Deployment as the cache has it after each of these versions.
fn deployment(versions: &[&[ManagedFieldsEntry]]) -> Arc<Deployment> {
    let seen: Vec<_> = versions.iter().map(|fields| (1_000, *fields)).collect();
    deployment_seen(&seen)
}

/// The same, with the second when each version was seen.
fn deployment_seen(versions: &[(i64, &[ManagedFieldsEntry])]) -> Arc<Deployment> {
    let mut deployment = Deployment::default();
    for (now, fields) in versions {
        let mut next = Deployment::default();
        next.metadata.name = Some("hello-2".to_owned());
        if let Some(kept) = to_cache(Field::Replicas, fields, Some(&deployment), second(*now)) {
            next.annotations_mut().insert(Field::Replicas.cached().to_owned(), kept);
        }
        deployment = next;
    }
    Arc::new(deployment)
}

#[test]
fn our_own_writes_and_other_fields_are_none() {
    let ours = [
        entry(MANAGER_AUTOSCALER, Some("scale"), 10, replicas()),
        entry(MANAGER_ACTIVATOR, Some("scale"), 11, replicas()),
        entry("pilotlight-create", None, 9, replicas()),
        entry("kube-controller-manager", Some("status"), 12, json!({"f:status": {"f:replicas": {}}})),
        entry("kubectl-rollout", None, 12, json!({"f:spec": {"f:template": {}}})),
    ];
    assert_eq!(Contention::of_replicas(&[deployment(&[&ours])], second(13)), None);
}

#[test]
fn a_write_that_was_undone_at_once_is_still_told_for_a_while() {
    let hpa = [entry("kube-controller-manager", Some("scale"), 100, replicas())];
    let undone = [entry(MANAGER_AUTOSCALER, Some("scale"), 101, replicas())];
    let all = [deployment(&[&hpa, &undone])];
    let contention = Contention::of_replicas(&all, second(102)).unwrap();
    assert_eq!(contention.until(), second(700));
    assert!(Contention::of_replicas(&all, second(699)).is_some());
    assert_eq!(Contention::of_replicas(&all, second(700)), None);
    // Again and again: the newest counts.
    let again = [entry("kube-controller-manager", Some("scale"), 115, replicas())];
    let all = [deployment(&[&hpa, &undone, &again, &undone])];
    assert_eq!(Contention::of_replicas(&all, second(120)).unwrap().until(), second(715));
}

#[test]
fn a_write_without_a_time_counts_from_when_it_was_first_seen() {
    let scaled = [ManagedFieldsEntry { time: None, ..entry("kubectl", Some("scale"), 0, replicas()) }];
    let undone = [entry(MANAGER_AUTOSCALER, Some("scale"), 101, replicas())];
    let until = |versions: &[(i64, &[ManagedFieldsEntry])]| {
        Contention::of_replicas(&[deployment_seen(versions)], second(200)).unwrap().until()
    };
    assert_eq!(until(&[(100, &scaled), (110, &scaled), (120, &undone), (130, &undone)]), second(700));
    assert_eq!(until(&[(100, &scaled), (120, &undone), (150, &scaled)]), second(750), "it was made again");
}

#[test]
fn how_old_a_write_without_a_time_is_nobody_can_tell_at_the_first_look() {
    let scaled = [ManagedFieldsEntry { time: None, ..entry("kubectl", Some("scale"), 0, replicas()) }];
    let mut first = Deployment::default();
    let kept = to_cache(Field::Replicas, &scaled, None::<&Deployment>, second(1_000_000)).unwrap();
    first.annotations_mut().insert(Field::Replicas.cached().to_owned(), kept);
    let again = to_cache(Field::Replicas, &scaled, Some(&first), second(1_000_001)).unwrap();
    let undone = [entry(MANAGER_AUTOSCALER, Some("scale"), 1_000_002, replicas())];
    let mut next = first.clone();
    next.annotations_mut().insert(Field::Replicas.cached().to_owned(), again);
    let both = [Arc::new(first), Arc::new(next.clone())];
    assert_eq!(Contention::of_replicas(&both, second(1_000_001)), None, "it may be from long ago");
    let past = to_cache(Field::Replicas, &undone, Some(&next), second(1_000_002)).unwrap();
    next.annotations_mut().insert(Field::Replicas.cached().to_owned(), past);
    let repeated = to_cache(Field::Replicas, &scaled, Some(&next), second(1_000_003)).unwrap();
    next.annotations_mut().insert(Field::Replicas.cached().to_owned(), repeated);
    let contention = Contention::of_replicas(&[Arc::new(next)], second(1_000_004));
    assert_eq!(contention.map(|contention| contention.until()), Some(second(1_000_603)));
}

/// The Service as the cache has it after each of these versions.
fn service(versions: &[&[ManagedFieldsEntry]]) -> Service {
    let mut service = Service::default();
    for fields in versions {
        let mut next = Service::default();
        next.metadata.name = Some("web".to_owned());
        if let Some(kept) = to_cache(Field::Selector, fields, Some(&service), second(1_000)) {
            next.annotations_mut().insert(Field::Selector.cached().to_owned(), kept);
        }
        service = next;
    }
    service
}

fn selector() -> Value {
    json!({"f:spec": {"f:selector": {}, "f:ports": {}}})
}

#[test]
fn a_selector_that_is_restored_again_and_again_is_told_until_it_stops() {
    let made = [entry("helm", None, 10, selector())];
    let taken = [entry("helm", None, 10, json!({"f:spec": {"f:ports": {}}}))];
    let restored = |at| [entry("argocd-controller", None, at, selector())];
    let (first, second_time) = (restored(100), restored(280));
    let all = service(&[&made, &taken, &first, &taken, &second_time, &taken]);
    let contention = Contention::of_selector(&all, second(300)).unwrap();
    assert_eq!((contention.field(), contention.until()), (Field::Selector, second(880)));
    assert!(contention.was_before(second(280)) && !contention.was_before(second(279)));
    assert!(Contention::of_selector(&all, second(879)).is_some());
    assert_eq!(Contention::of_selector(&all, second(880)), None);
    // What it had before it was taken over tells its time.
    let before = Contention::of_selector(&service(&[&made, &taken]), second(20)).unwrap();
    assert!(before.was_before(second(10)));
}

#[test]
fn a_selector_that_we_gave_back_is_none_of_others() {
    let ours = [entry(MANAGER_OPERATOR, None, 100, selector()), entry("helm", None, 90, json!({"f:spec": {}}))];
    assert_eq!(Contention::of_selector(&service(&[&ours]), second(101)), None);
    // Deployments have selectors, too, and replicas are another matter.
    assert_eq!(Contention::of_replicas(&[deployment(&[&[entry("helm", None, 90, selector())]])], second(101)), None);
}

fn function(spec: Value) -> Function {
    let meta = json!({"name": "hello"});
    let whole = json!({"apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function", "metadata": meta, "spec": spec});
    serde_json::from_value(whole).unwrap()
}

fn own() -> Function {
    function(json!({"image": "example.com/hello"}))
}

fn adopting() -> Function {
    function(json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello-2"}}))
}

#[test]
fn the_words_name_who_and_what_to_do() {
    let words = |function: &Function, manager: &str, subresource| {
        let all = [deployment(&[&[entry(manager, subresource, 100, replicas())]])];
        Contention::of_replicas(&all, second(101)).unwrap().message(function)
    };
    for function in [own(), adopting()] {
        let hpa = words(&function, "kube-controller-manager", Some("scale"));
        assert!(hpa.contains("HorizontalPodAutoscaler") && hpa.contains("hello-2 by /scale"), "{hpa}");
        let person = words(&function, "kubectl", Some("scale"));
        assert!(person.contains("kubectl scale function hello"), "{person}");
        let argo = words(&function, "argocd-controller", None);
        assert!(argo.contains("ignoreDifferences") && argo.contains("in its spec"), "{argo}");
        assert!(words(&function, "my-script", None).contains("set spec.scaling of the Function hello"));
    }
    // A Deployment that was taken over stays in its owner's manifests.
    let applied = words(&adopting(), "kubectl-client-side-apply", None);
    assert!(applied.contains("leave replicas out of what is applied"), "{applied}");
    let argo = words(&adopting(), "argocd-controller", None);
    assert!(argo.contains("RespectIgnoreDifferences") && !argo.contains("the Function only"), "{argo}");
}

#[test]
fn who_restores_a_selector_hears_how_to_leave_it_alone() {
    let words = |manager: &str| {
        let all = service(&[&[entry(manager, None, 100, selector())]]);
        Contention::of_selector(&all, second(101)).unwrap().message(&adopting())
    };
    let argo = words("argocd-controller");
    for word in
        ["\"argocd-controller\"", "Service web", "/spec/selector", "ignoreDifferences", "RespectIgnoreDifferences"]
    {
        assert!(argo.contains(word), "{argo}");
    }
    assert!(words("kubectl-edit").contains("leave the selector out"));
    assert!(words("helm").contains("ignore /spec/selector"));
}
