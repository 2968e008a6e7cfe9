//! Parts are replaced in good order, all under load and with requests open that outlast it: activators are rolled, a Function gets a
//! new revision, pods are deleted and evicted. Nothing is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams};
use kube::{Api, ResourceExt as _};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::http;
use pilotlight_e2e::load::Load;
use pilotlight_e2e::reach::{ACTIVATORS, SYSTEM_NAMESPACE, is_ready};
use pilotlight_e2e::renew::renew;
use pilotlight_e2e::stage::Stage;
use pilotlight_e2e::stream::{self, Streamed};
use pilotlight_e2e::wait::until;
use pilotlight_e2e::websocket::WebSocket;
use serde_json::json;

/// Clients of each Function.
const CLIENTS: usize = 3;
/// For a piece of an open stream to arrive.
const PIECE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn nothing_is_lost_while_parts_are_replaced_in_good_order() -> Result<()> {
    let stage = Stage::set("graceful").await?;
    let (reach, namespace) = (&stage.reach, stage.namespace.as_str());
    stage.functions.create("hello", json!({"scaling": {"minReplicas": 2}})).await?;
    stage.functions.create("patient", patient()).await?;
    for name in ["hello", "patient"] {
        stage.ready(name).await?;
    }
    replaced(&stage, "hello", 2, &BTreeSet::new()).await?;
    let load = Load::start(reach, namespace, &["hello", "patient"], CLIENTS).await?;
    let mut lasting = Lasting::open(&stage).await?;
    let address = reach.address(namespace, "patient").await?;
    let held = http::get_at(reach, &address, "patient", "/wait?seconds=35");
    let steps = async {
        println!("the pod of the long requests is deleted, and the activators that they pass through are rolled");
        tokio::try_join!(delete_pods(&stage, "patient", 1), renew(&stage.reach, ACTIVATORS))?;
        lasting.go_on().await?;
        println!("a new revision");
        new_revision(&stage).await?;
        println!("pods are deleted");
        delete_pods(&stage, "hello", 2).await?;
        println!("pods are evicted, and an activator");
        evict_pods(&stage).await?;
        evict_activator(&stage).await?;
        lasting.go_on().await
    };
    let (held, ()) = tokio::try_join!(held, steps)?;
    ensure!(held.status.as_u16() == 200, "the 35 s request: {} {}", held.status, held.text());
    ensure!(held.text() == "answered", "the 35 s request was answered with {:?}", held.text());
    lasting.go_on().await?;
    println!("  {} requests, none failed", load.end_without_failure().await?);
    let Lasting { events, socket, .. } = lasting;
    drop(events);
    socket.close().await?;
    stage.strike().await
}

fn patient() -> serde_json::Value {
    json!({
        "image": image("hello-python"),
        "command": ["/usr/bin/python3"],
        "args": ["-I", "-c", include_str!("patient.py")],
        "scaling": {"minReplicas": 1},
        // Longer than the test; the pod ends with its last answer.
        "terminationGracePeriodSeconds": 300,
    })
}

/// Server-Sent Events without an end, and a WebSocket, open through all that is done.
struct Lasting {
    events: Streamed,
    last: u64,
    socket: WebSocket,
    echoed: u64,
}

impl Lasting {
    async fn open(stage: &Stage) -> Result<Self> {
        let events = stream::open(&stage.reach, &stage.namespace, "patient", "/events").await?;
        let socket = WebSocket::open(&stage.reach, &stage.namespace, "patient").await?;
        let mut lasting = Self { events, last: 0, socket, echoed: 0 };
        lasting.go_on().await?;
        Ok(lasting)
    }

    /// Each goes on where it was: no event is missing, and what is sent comes back.
    async fn go_on(&mut self) -> Result<()> {
        let already = self.echoed;
        let mut more = 0;
        while more < 10 {
            let event = tokio::time::timeout(PIECE, self.events.event()).await.context("no event any more")??;
            let event = event.context("the stream of events has ended")?;
            let id = event.lines().find_map(|line| line.strip_prefix("id: ")).context("an event without id")?;
            ensure!(id.parse::<u64>()? == self.last + 1, "event {id} followed event {}", self.last);
            (self.last, more) = (self.last + 1, more + 1);
        }
        while self.echoed < already + 10 {
            self.echoed += 1;
            let sent = self.echoed.to_string();
            self.socket.send(&sent).await?;
            let back = tokio::time::timeout(PIECE, self.socket.receive()).await.context("nothing came back")??;
            ensure!(back == sent, "{back:?} came back for {sent:?}");
        }
        Ok(())
    }
}

async fn evict_activator(stage: &Stage) -> Result<()> {
    let pods = stage.reach.ready_pods(SYSTEM_NAMESPACE, ACTIVATORS).await?;
    let victim = pods.first().context("no activator is ready")?;
    let api: Api<Pod> = Api::namespaced(stage.reach.client.clone(), SYSTEM_NAMESPACE);
    api.evict(&victim.name_any(), &EvictParams::default()).await?;
    let old = BTreeSet::from([uid(victim)]);
    let ready = || stage.reach.ready_pods(SYSTEM_NAMESPACE, ACTIVATORS);
    until("another activator to be ready", PATIENCE, ready, |pods| {
        pods.len() >= 2 && pods.iter().all(|pod| !old.contains(&uid(pod)))
    })
    .await?;
    Ok(())
}

/// Changes what shapes the pods, and waits until the new ones have the traffic and the old ones are gone.
async fn new_revision(stage: &Stage) -> Result<()> {
    let old = uids(&stage.functions.pods("hello").await?);
    stage.functions.patch("hello", json!({"env": [{"name": "SECOND", "value": "yes"}]})).await?;
    replaced(stage, "hello", 2, &old).await
}

async fn delete_pods(stage: &Stage, function: &str, replicas: usize) -> Result<()> {
    let pods = stage.functions.pods(function).await?;
    for pod in &pods {
        stage.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await?;
    }
    replaced(stage, function, replicas, &uids(&pods)).await
}

async fn evict_pods(stage: &Stage) -> Result<()> {
    let pods = stage.functions.pods("hello").await?;
    for pod in &pods {
        match stage.api::<Pod>().evict(&pod.name_any(), &EvictParams::default()).await {
            // One that the step before has deleted, and that was still on its way out.
            Err(kube::Error::Api(refusal)) if refusal.is_not_found() => {}
            evicted => drop(evicted?),
        }
    }
    replaced(stage, "hello", 2, &uids(&pods)).await
}

/// Waits until at least `replicas` pods of a Function are ready, and of those in `old` none is left but on its way out.
async fn replaced(stage: &Stage, function: &str, replicas: usize, old: &BTreeSet<String>) -> Result<()> {
    until(
        &format!("{replicas} new pods of {function}"),
        PATIENCE,
        || stage.functions.pods(function),
        |pods| {
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            let stays = |pod: &Pod| old.contains(&uid(pod)) && pod.metadata.deletion_timestamp.is_none();
            ready >= replicas && !pods.iter().any(stays)
        },
    )
    .await?;
    Ok(())
}

fn uid(pod: &Pod) -> String {
    pod.uid().unwrap_or_default()
}

fn uids(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().map(uid).collect()
}
