//! Names owners of Functions with a hard concurrency limit while no operator does: an owner that goes would leave the requests of others
//! waiting until they time out.
//!
//! What always holds: the rules are the operator's ([`owner::decide`]), and a write names the version that it was decided on; who is
//! named accepts the Function's connections already.

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use pilotlight_crds::status::{RouteOwner, RouteStatus};
use pilotlight_crds::{Function, FunctionStatus};

use super::keep::accepts;
use crate::observe::{is_ready, may_run};
use crate::owner::{self, OwnerInput, Runner};
use crate::write::{Applied, apply_status};

/// Functions that are looked at or written at once.
const CONCURRENCY: usize = 16;

/// Who owns which Function, looked at again whenever activators change.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// The activators for which every Function has the owner that it should have.
    settled: Option<Vec<Runner>>,
}

impl Owners {
    /// Names owners where those that are named go. `pods` are the activators'.
    pub(super) async fn round(&mut self, client: &Client, pods: &[Pod]) -> kube::Result<()> {
        let running = runners(pods);
        if self.settled.as_ref() == Some(&running) {
            return Ok(());
        }
        let functions = Api::<Function>::all(client.clone()).list(&ListParams::default()).await?;
        let settled = stream::iter(&functions.items)
            .map(|function| settle_or_tell(client, function, &running))
            .buffer_unordered(CONCURRENCY)
            .fold(true, |all, one| std::future::ready(all && one))
            .await;
        self.settled = settled.then_some(running);
        Ok(())
    }
}

/// The activators whose process may be running, by uid.
fn runners(pods: &[Pod]) -> Vec<Runner> {
    let runner = |pod: &Pod| {
        let ip = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
        may_run(pod).then(|| Runner {
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            ip,
            takes: is_ready(pod),
            reached: true,
        })
    };
    let mut runners: Vec<Runner> = pods.iter().filter_map(runner).collect();
    runners.sort_by(|one, other| one.uid.cmp(&other.uid));
    runners
}

/// Who should own the Function, where that is another than the one who does.
fn other_owner(function: &Function, running: &[Runner], now: Timestamp) -> Option<RouteOwner> {
    let current = function.status.as_ref()?.route.as_ref()?.owner.as_ref()?;
    let decided = owner::decide(&OwnerInput {
        namespace: &function.namespace()?,
        name: &function.name_any(),
        limit: function.spec.concurrency.limit,
        new: false,
        current: Some(current),
        running: Some(running),
        now: now.as_second(),
    });
    decided.filter(|decided| decided != current)
}

/// Whether the Function now has the owner that it should have; one that cannot be given one is told of, and is tried again at the next look.
async fn settle_or_tell(client: &Client, function: &Function, running: &[Runner]) -> bool {
    settle(client, function, running).await.unwrap_or_else(|error| {
        let (function, namespace) = (function.name_any(), function.namespace().unwrap_or_default());
        tracing::warn!(function, namespace, %error, "cannot name who sends the Function's requests, will try again");
        false
    })
}

/// Whether the Function now has the owner that it should have.
async fn settle(client: &Client, function: &Function, running: &[Runner]) -> kube::Result<bool> {
    let now = Timestamp::now();
    let (Some(status), Some(wanted)) = (&function.status, other_owner(function, running, now)) else {
        return Ok(true);
    };
    let Some(route) = &status.route else {
        return Ok(true);
    };
    // Nobody may be named who does not accept the Function's connections yet: whoever relays to it would be refused.
    let mut accepting = running.to_vec();
    for runner in &mut accepting {
        runner.takes = runner.takes && accepts(runner.ip, route.port).await;
    }
    let Some(owner) = other_owner(function, &accepting, now) else {
        return Ok(false);
    };
    let next =
        FunctionStatus { route: Some(RouteStatus { owner: Some(owner.clone()), ..route.clone() }), ..status.clone() };
    let applied = apply_status(client, function, &next, true).await?;
    if applied == Applied::Written {
        tracing::info!(
            function = function.name_any(),
            namespace = function.namespace().unwrap_or_default(),
            epoch = owner.epoch,
            owner = owner.activator.as_ref().map(|activator| &activator.pod),
            "named who sends the Function's requests"
        );
    }
    Ok(applied != Applied::Outdated && owner == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotlight_crds::status::ActivatorRef;
    use serde_json::{Value, json};

    fn pod(n: u8, changes: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": format!("activator-{n}"), "uid": format!("uid-{n}")},
            "status": {
                "phase": "Running",
                "podIP": format!("10.0.0.{n}"),
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{
                    "name": "activator", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "state": {"running": {}},
                }],
            },
        });
        merge(&mut pod, &changes);
        serde_json::from_value(pod).unwrap()
    }

    fn merge(into: &mut Value, changes: &Value) {
        match (into, changes) {
            (Value::Object(into), Value::Object(changes)) => {
                for (key, change) in changes {
                    merge(into.entry(key).or_insert(Value::Null), change);
                }
            }
            (into, change) => *into = change.clone(),
        }
    }

    fn going() -> Value {
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    }

    fn over() -> Value {
        json!({"status": {"phase": "Failed"}})
    }

    /// A Function that `uid-1` owns since epoch 50, as of three activators.
    fn function(limit: u32) -> Function {
        let activator = |n: u8| json!({"pod": format!("activator-{n}"), "uid": format!("uid-{n}"), "address": format!("10.0.0.{n}")});
        serde_json::from_value(json!({
            "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function",
            "metadata": {"name": "hello", "namespace": "shop"},
            "spec": {"image": "hello", "concurrency": {"limit": limit}},
            "status": {"route": {
                "port": 12_000,
                "owner": {"epoch": 50, "activator": activator(1), "others": [activator(2), activator(3)]},
            }},
        }))
        .unwrap()
    }

    fn other(pods: &[Pod]) -> Option<RouteOwner> {
        other_owner(&function(1), &runners(pods), Timestamp::from_second(60).unwrap())
    }

    fn pods_of(others: &[ActivatorRef]) -> Vec<&str> {
        others.iter().map(|other| other.pod.as_str()).collect()
    }

    #[test]
    fn an_owner_that_stays_is_kept() {
        assert_eq!(other(&[pod(1, json!({})), pod(2, json!({})), pod(3, going())]), None);
    }

    #[test]
    fn who_stays_follows_an_owner_that_goes_and_asks_it_what_it_still_has() {
        let next = other(&[pod(1, going()), pod(2, json!({})), pod(3, going())]).unwrap();
        assert_eq!((next.epoch, next.activator.unwrap().pod.as_str()), (60, "activator-2"));
        assert_eq!(pods_of(&next.others), ["activator-1", "activator-3"]);
    }

    #[test]
    fn who_is_over_need_not_be_asked() {
        let next = other(&[pod(1, over()), pod(2, json!({})), pod(3, going())]).unwrap();
        assert_eq!((next.activator.unwrap().pod.as_str(), pods_of(&next.others)), ("activator-2", vec!["activator-3"]));
        let same = other(&[pod(1, json!({})), pod(2, json!({})), pod(3, over())]).unwrap();
        assert_eq!((same.epoch, pods_of(&same.others)), (50, vec!["activator-2"]), "no new epoch for that");
    }

    #[test]
    fn nobody_is_named_where_nobody_stays() {
        assert_eq!(other(&[pod(1, going()), pod(2, going()), pod(3, going())]), None);
    }
}
