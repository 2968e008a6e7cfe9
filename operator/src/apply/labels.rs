//! What a table of a Function's Deployments shows of its revisions: labels that say how much of the traffic each has, and what it has proved.
//!
//! What always holds: a Function with one revision costs no write for this; nothing is decided by these labels.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use pilotlight_crds::status::RevisionState;
use pilotlight_crds::{Function, names};
use serde_json::json;

use super::network::namespace;
use super::{ApplyError, sort};
use crate::context::Context;
use crate::observe::Observed;
use crate::status::{Traffic, Verdict};

/// Labels the Deployments of several revisions.
pub(super) async fn apply(
    context: &Context,
    function: &Function,
    observed: &Observed,
    verdicts: &[Verdict],
    traffic: &Traffic,
) -> Result<(), ApplyError> {
    if observed.deployments.len() < 2 {
        return Ok(());
    }
    let api: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace(function));
    for verdict in verdicts {
        let Some(live) = observed.deployment(&verdict.name) else { continue };
        let wanted = labels(verdict, traffic);
        if live.metadata.deletion_timestamp.is_some()
            || wanted.iter().all(|(key, value)| live.labels().get(*key) == Some(value))
        {
            continue;
        }
        let patch = Patch::Merge(json!({"metadata": {"labels": wanted}}));
        let by_operator =
            PatchParams { field_manager: Some(names::MANAGER_OPERATOR.to_owned()), ..PatchParams::default() };
        match api.patch(&verdict.name, &by_operator, &patch).await {
            Ok(_) => context.metrics.wrote("Deployment", "label"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            // Nothing depends on it; what the API server does not let be is no failure.
            Err(error) => drop(sort("label", "Deployment", &verdict.name, error)?),
        }
    }
    Ok(())
}

fn labels(verdict: &Verdict, traffic: &Traffic) -> BTreeMap<&'static str, String> {
    let state = match verdict.state {
        RevisionState::Pending => "Pending",
        RevisionState::Ready => "Ready",
        RevisionState::Failed => "Failed",
    };
    [(names::LABEL_TRAFFIC, traffic.percent(&verdict.name).to_string()), (names::LABEL_STATE, state.to_owned())].into()
}
