//! What was taken over stays its owner's: with its own identity the operator changes nothing of it but what it needs to, and of others' nothing.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::PostParams;
use pilotlight_crds::names;
use pilotlight_e2e::existing::{deployment, service};
use pilotlight_e2e::reach::{ACTIVATORS, OPERATORS};
use pilotlight_e2e::stage::Stage;
use serde_json::json;

use super::{adopt, running};
use crate::admission::attempt;
use crate::security::account;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_operator_changes_replicas_and_selector_and_only_where_it_was_let() -> Result<()> {
    let stage = Stage::set("adopt-rights").await?;
    running(&stage, 1).await?;
    adopt(&stage, json!({"minReplicas": 1})).await?;
    let (mut other, mut others_service) = (deployment("plain", "plain", 1)?, service("plain", "plain")?);
    for metadata in [&mut other.metadata, &mut others_service.metadata] {
        metadata.labels = None;
    }
    stage.api::<Deployment>().create(&PostParams::default(), &other).await?;
    stage.api::<Service>().create(&PostParams::default(), &others_service).await?;
    let (operator, activator) = (account(&stage, OPERATORS).await?, account(&stage, ACTIVATORS).await?);

    let label = r#"{"metadata":{"labels":{"example.com/label":"x"}}}"#;
    let note = r#"{"metadata":{"annotations":{"example.com/note":"another"}}}"#;
    let consent = r#"{"metadata":{"labels":{"pilotlight.dev/function":"plain"}}}"#;
    let image = r#"{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"example.com/evil"}]}}}}"#;
    let selector = r#"{"spec":{"selector":{"app":"api"}}}"#;
    let type_ = r#"{"spec":{"type":"NodePort"}}"#;
    let owner = r#"{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"x","uid":"x"}]}}"#;
    let replicas = |number: i32| json!({"spec": {"replicas": number}}).to_string();
    let (none, two) = (replicas(0), replicas(2));
    let spec = r#"{"spec":{"scaling":{"maxReplicas":7}}}"#;
    let finalizer = r#"{"metadata":{"finalizers":["example.com/other"]}}"#;
    let scale = |name: &'static str, replicas: &str| {
        ["patch", "deployment", name, "--subresource=scale", "--type=merge", "-p", replicas].map(str::to_owned).to_vec()
    };
    let patch = |kind: &str, name: &str, patch: &str| {
        ["patch", kind, name, "--type=merge", "-p", patch].map(str::to_owned).to_vec()
    };
    let delete = |kind: &str, name: &str| ["delete", kind, name].map(str::to_owned).to_vec();
    let only_scale = Some("changes nothing but its scale");
    let only_selector = Some("changes nothing but its selector");
    let only_labelled = Some("only writes objects with the label");
    let only_scales = Some("only scales Deployments with the label");
    let only_finalizer = Some("but its status and the finalizer pilotlight.dev/release");
    let attempts = [
        (&operator, patch("deployment", "api", label), only_scale),
        (&operator, patch("deployment", "api", image), only_scale),
        (&operator, patch("deployment", "api", &two), only_scale),
        (&operator, delete("deployment", "api"), only_scale),
        (&operator, patch("service", "web", label), only_selector),
        (&operator, patch("service", "web", note), only_selector),
        (&operator, patch("service", "web", type_), only_selector),
        (&operator, patch("service", "web", owner), only_selector),
        (&operator, delete("service", "web"), only_selector),
        (&operator, patch("service", "web", selector), None),
        (&operator, patch("service", "plain", selector), only_labelled),
        (&operator, patch("service", "plain", consent), Some("belongs to no Function")),
        (&operator, patch("deployment", "plain", consent), Some("belongs to no Function")),
        (&operator, scale("plain", &none), only_scales),
        (&activator, scale("plain", &two), only_scales),
        (&activator, scale("api", &two), None),
        (&operator, patch("function", "web", spec), only_finalizer),
        (&operator, patch("function", "web", label), only_finalizer),
        (&operator, patch("function", "web", finalizer), only_finalizer),
        (&operator, delete("function", "web"), Some("cannot delete")),
        (&activator, patch("function", "web", finalizer), Some("cannot patch")),
        (&activator, patch("service", "web", selector), Some("cannot get")),
    ];
    for (account, arguments, refusal) in &attempts {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        attempt(&stage, account, &arguments, *refusal).await?;
    }
    let finalizers = stage.functions.get("web").await?.metadata.finalizers;
    assert_eq!(finalizers, Some(vec![names::FINALIZER_RELEASE.to_owned()]));
    stage.strike().await
}
