//! The Deployment of a revision, and what restores it when somebody changed it.
//!
//! What always holds: `replicas` is in the creating POST alone, as 0. What restores a Deployment never mentions it, so
//! whatever the autoscaler, an activator or a person set stays.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pilotlight_crds::{Function, names};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{beacon, owned_metadata, revision_labels, revision_selector};

/// Annotation on a revision's Deployment: the pod template as it was built when the revision was made, in JSON, without the beacon. It
/// outlives the spec that it was built from and the version of the operator that built it, so that an old revision can be restored.
pub const ANNOTATION_TEMPLATE: &str = "pilotlight.dev/pod-template";

/// A revision as it was made; never changes afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// 1 for the first, counting up.
    pub number: u64,
    /// Hash of the spec's parts that shape pods.
    pub hash: String,
    /// The pod template.
    pub template: PodTemplateSpec,
}

impl Revision {
    /// Name of the revision and of its Deployment.
    pub fn name(&self, function: &str) -> String {
        names::revision_name(function, self.number)
    }

    /// Reads a revision back from the Deployment that carries it. `None` where the annotations are missing or damaged.
    pub fn from_deployment(deployment: &Deployment) -> Option<Self> {
        let annotations = deployment.metadata.annotations.as_ref()?;
        Some(Self {
            number: revision_number(deployment)?,
            hash: annotations.get(names::ANNOTATION_REVISION_HASH)?.clone(),
            template: serde_json::from_str(annotations.get(ANNOTATION_TEMPLATE)?).ok()?,
        })
    }
}

/// The number of the revision that a Deployment carries: from its annotation or, where somebody removed that, from its name.
pub fn revision_number(deployment: &Deployment) -> Option<u64> {
    let annotated = deployment
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(names::ANNOTATION_REVISION_NUMBER))
        .and_then(|number| number.parse().ok());
    annotated.or_else(|| {
        let (_, number) = deployment.metadata.name.as_deref()?.rsplit_once('-')?;
        number.parse().ok()
    })
}

/// The Deployment that the creating POST carries. `beacon`: the container that its pods have beside the function's.
pub fn deployment(function: &Function, revision: &Revision, beacon: Option<&Container>) -> Deployment {
    let function_name = function.metadata.name.as_deref().unwrap_or_default();
    let name = revision.name(function_name);
    let mut metadata = owned_metadata(function, name.clone(), revision_labels(function_name, &name));
    let mut annotations = std::collections::BTreeMap::from([
        (names::ANNOTATION_REVISION_HASH.to_owned(), revision.hash.clone()),
        (names::ANNOTATION_REVISION_NUMBER.to_owned(), revision.number.to_string()),
        (ANNOTATION_TEMPLATE.to_owned(), encoded(&revision.template)),
    ]);
    annotations.extend(beacon.map(|beacon| (names::ANNOTATION_BEACON.to_owned(), encoded(beacon))));
    metadata.annotations = Some(annotations);
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(0),
            revision_history_limit: Some(1),
            progress_deadline_seconds: Some(600),
            selector: LabelSelector {
                match_labels: Some(revision_selector(function_name, &name)),
                match_expressions: None,
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            template: beacon::beside(revision.template.clone(), beacon),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A strategic merge patch that makes a Deployment again what [`deployment`] built, `replicas` aside. The template is
/// replaced as a whole: server-side apply would leave what somebody else added to it.
pub fn restoring_patch(desired: &Deployment) -> Value {
    let mut spec =
        serde_json::to_value(&desired.spec).expect("a DeploymentSpec has string keys and no fallible fields");
    if let Value::Object(fields) = &mut spec {
        fields.remove("replicas");
        // Immutable, and so never in need of repair.
        fields.remove("selector");
        for whole in ["template", "strategy"] {
            if let Some(Value::Object(part)) = fields.get_mut(whole) {
                part.insert("$patch".to_owned(), Value::from("replace"));
            }
        }
    }
    let mut annotations = json!(desired.metadata.annotations.clone().unwrap_or_default());
    if annotations.get(names::ANNOTATION_BEACON).is_none() {
        annotations[names::ANNOTATION_BEACON] = Value::Null;
    }
    json!({
        "metadata": {
            "labels": desired.metadata.labels,
            "annotations": annotations,
            "ownerReferences": desired.metadata.owner_references,
        },
        "spec": spec,
    })
}

fn encoded(part: &impl serde::Serialize) -> String {
    serde_json::to_string(part).expect("templates and containers have string keys and no fallible fields")
}
