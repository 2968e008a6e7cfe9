//! What a Function does not take over, it does not touch, and says why and what helps.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::PostParams;
use pilotlight_crds::names;
use pilotlight_e2e::existing::{adopting, deployment, service};
use pilotlight_e2e::stage::Stage;
use serde_json::{Value, json};

use super::refused;

/// A Function, what is wrong with the Deployment and the Service of its name (`null`: it is missing), and the reason and a word of the remedy.
struct Case {
    name: &'static str,
    deployment: Value,
    service: Value,
    reason: &'static str,
    words: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |name, deployment, service, reason, words| Case { name, deployment, service, reason, words };
    let fine = json!({});
    let unlabelled = json!({"metadata": {"labels": {names::LABEL_FUNCTION: null}}});
    let controlled = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "example.com/v1", "kind": "App", "name": "shop", "uid": "f8c7e3e6-0000-4000-8000-000000000000", "controller": true},
    ]}});
    vec![
        case("no-target", Value::Null, fine.clone(), "TargetMissing", "no-target"),
        case("unlabelled", unlabelled.clone(), fine.clone(), "TargetNotLabelled", names::LABEL_FUNCTION),
        case(
            "another-s",
            json!({"metadata": {"labels": {names::LABEL_FUNCTION: "other"}}}),
            fine.clone(),
            "TargetNotLabelled",
            names::LABEL_FUNCTION,
        ),
        case("controlled", controlled, fine.clone(), "TargetControlled", "App"),
        case("no-service", fine.clone(), Value::Null, "ServiceMissing", "no-service"),
        case("no-consent", fine.clone(), unlabelled, "ServiceNotLabelled", names::LABEL_FUNCTION),
        case("headless", fine.clone(), json!({"spec": {"clusterIP": "None"}}), "ServiceUnfit", "headless"),
        case("selectorless", fine.clone(), json!({"spec": {"selector": null}}), "ServiceUnfit", "selector"),
        case("others-pods", fine.clone(), json!({"spec": {"selector": {"app": "others"}}}), "ServiceUnfit", "selector"),
        case(
            "two-ports",
            fine.clone(),
            json!({"spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}}),
            "ServiceUnfit",
            "port",
        ),
        case("udp", fine, json!({"spec": {"ports": [{"port": 80, "protocol": "UDP"}]}}), "ServiceUnfit", "TCP"),
    ]
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn what_cannot_be_taken_over_is_left_alone_and_the_condition_says_what_helps() -> Result<()> {
    let stage = Stage::set("adopt-refused").await?;
    for Case { name, deployment: changes, service: other, .. } in cases() {
        if !changes.is_null() {
            let deployment: Deployment = changed(deployment(name, name, 0)?, &changes)?;
            stage.api().create(&PostParams::default(), &deployment).await?;
        }
        if !other.is_null() {
            let service: Service = changed(service(name, name)?, &other)?;
            stage.api().create(&PostParams::default(), &service).await?;
        }
        stage.apply(&adopting(name, name, json!({})).to_string()).await?.success()?;
    }
    for Case { name, deployment, service, reason, words } in cases() {
        let message = refused(&stage, name, reason).await?;
        ensure!(message.contains(words), "{name}: {message:?} does not say {words:?}");
        untouched(&stage, name, !deployment.is_null(), !service.is_null()).await?;
    }
    // Which Deployment it is, and that it is one, is for good.
    for change in
        [r#"{"spec":{"targetRef":{"name":"other"}}}"#, r#"{"spec":{"targetRef":null,"image":"example.com/app"}}"#]
    {
        let printed = stage.kubectl(&["patch", "function", "no-target", "--type=merge", "-p", change]).await?;
        ensure!(
            !printed.ok && printed.err.contains("delete the Function, which gives the Deployment back"),
            "{}",
            printed.err
        );
    }
    for Case { name, .. } in cases() {
        // Nothing was taken, so nothing holds it.
        stage.kubectl_ok(&["delete", "function", name, "--timeout=20s"]).await?;
    }
    stage.strike().await
}

/// An object with changes merged in, as `kubectl patch --type merge` does.
fn changed<K: serde::Serialize + serde::de::DeserializeOwned>(object: K, changes: &Value) -> Result<K> {
    fn merge(into: &mut Value, changes: &Value) {
        match (into, changes) {
            (Value::Object(into), Value::Object(changes)) => {
                for (key, value) in changes {
                    if value.is_null() {
                        into.remove(key);
                    } else {
                        merge(into.entry(key).or_insert(Value::Null), value);
                    }
                }
            }
            (into, changes) => *into = changes.clone(),
        }
    }
    let mut object = serde_json::to_value(object)?;
    merge(&mut object, changes);
    Ok(serde_json::from_value(object)?)
}

/// Both are as they were made.
async fn untouched(stage: &Stage, name: &str, deployment: bool, service: bool) -> Result<()> {
    let writers = |metadata: kube::core::ObjectMeta| {
        let managers = metadata.managed_fields.into_iter().flatten().filter_map(|fields| fields.manager);
        managers.filter(|manager| manager.starts_with("pilotlight")).collect::<Vec<_>>()
    };
    if deployment {
        let deployment = stage.api::<Deployment>().get(name).await?;
        assert_eq!(writers(deployment.metadata), Vec::<String>::new(), "the Deployment {name} was written");
    }
    if service {
        let service = stage.api::<Service>().get(name).await?;
        assert_eq!(writers(service.metadata), Vec::<String>::new(), "the Service {name} was written");
    }
    Ok(())
}
