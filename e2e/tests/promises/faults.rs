//! Promise: whatever keeps a Function from starting, its condition, an event and the HTTP answer name the cause, soon; and a
//! corrected YAML heals it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::join;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::PostParams;
use pilotlight_crds::condition::{READY, RECONCILING, ROUTE_READY, STALLED, WORKLOAD_READY};
use pilotlight_e2e::fixture::{PATIENCE, image};
use pilotlight_e2e::http::Answer;
use pilotlight_e2e::stage::{Stage, condition, condition_by};
use pilotlight_e2e::wait::until;
use serde_json::{Value, json};

use crate::protocols;

/// Promised: from `kubectl apply` to a condition that names the cause.
const DIAGNOSIS: Duration = Duration::from_secs(30);
/// `coldStart.timeoutSeconds` of every Function here.
const COLD_START: Duration = Duration::from_secs(10);
/// What a busy machine may take on top, for the connection and the answer itself.
const SLACK: Duration = Duration::from_secs(2);

/// A mistake in a Function's spec.
struct Mistake {
    /// Name of the Function.
    name: &'static str,
    /// What it changes in a spec that works.
    spec: Value,
    /// The CamelCase reason that everyone must be told.
    reason: &'static str,
    /// Whether only a change from outside can help, so that tools that wait should stop waiting (kstatus: `Stalled`).
    stalled: bool,
    /// Words of the cause itself that everyone must be told.
    cause: &'static str,
    /// Merge patch of the spec that corrects it.
    correction: Value,
}

/// Applies the mistake, asks everyone for the cause, corrects it, and expects an answer.
async fn is_diagnosed_and_healed(stage: Stage, mistake: Mistake) -> Result<()> {
    let name = mistake.name;
    let mut spec = mistake.spec.clone();
    spec["scaling"] = json!({"idleSeconds": 5});
    spec["coldStart"] = json!({"timeoutSeconds": COLD_START.as_secs()});
    let applied = Instant::now();
    stage.functions.create(name, spec).await?;

    let (early, told) = join!(
        early_caller(&stage, name),
        condition_by(&stage, name, (WORKLOAD_READY, "False"), (applied, DIAGNOSIS), |c| {
            c.reason == mistake.reason && c.message.contains(mistake.cause)
        },)
    );
    told?;
    refused_in_time(&early?)?;

    let ready = stage.functions.condition(name, READY, "False").await?;
    let ready = condition(&ready, READY).map(|c| c.reason.as_str());
    assert_eq!(ready, Some(mistake.reason), "Ready must tell the same as WorkloadReady");
    if mistake.stalled {
        stage.functions.condition(name, STALLED, "True").await?;
    }
    warned(&stage, &mistake).await?;

    let late = stage.get(name, "/").await?;
    refused_in_time(&late)?;
    assert_eq!(late.header("pilotlight-reason"), mistake.reason, "{}", late.text());
    ensure!(
        late.text().contains(mistake.cause),
        "the answer does not name the cause {:?}: {}",
        mistake.cause,
        late.text()
    );

    stage.functions.patch(name, mistake.correction).await?;
    stage.answers(name).await?;
    stage.functions.condition(name, WORKLOAD_READY, "True").await?;
    stage.ready(name).await?;
    let settled = || stage.functions.get(name);
    until("the Function to be settled, as kstatus means it", PATIENCE, settled, |function| {
        [STALLED, RECONCILING].iter().all(|kind| condition(function, kind).is_none())
    })
    .await?;
    stage.strike().await
}

/// Someone who asks before the cause can be known: as soon as there is a route.
async fn early_caller(stage: &Stage, name: &str) -> Result<Answer> {
    stage.functions.condition(name, ROUTE_READY, "True").await?;
    stage.reachable(name).await?;
    stage.get(name, "/").await
}

fn refused_in_time(answer: &Answer) -> Result<()> {
    ensure!(matches!(answer.status.as_u16(), 503 | 504), "answered {}: {}", answer.status, answer.text());
    ensure!(!answer.header("pilotlight-reason").is_empty(), "no pilotlight-reason: {}", answer.text());
    ensure!(
        answer.took < COLD_START + SLACK,
        "answered only after {:?}, coldStart.timeoutSeconds is {COLD_START:?}",
        answer.took
    );
    Ok(())
}

/// Waits for a Warning about the Function that names the cause.
async fn warned(stage: &Stage, mistake: &Mistake) -> Result<()> {
    let what = format!("a Warning event about {} that names {:?}", mistake.name, mistake.cause);
    let events = || stage.events("Function", mistake.name);
    until(&what, PATIENCE, events, |events| {
        events.iter().any(|event| {
            event.type_.as_deref() == Some("Warning")
                && event.message.as_deref().is_some_and(|message| message.contains(mistake.cause))
        })
    })
    .await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_image_that_cannot_be_pulled() -> Result<()> {
    let mistake = Mistake {
        name: "image",
        // Nobody listens there, on any cluster: refused at once.
        spec: json!({"image": "127.0.0.1:9/no/such/image:v1"}),
        reason: "ImagePullFailed",
        stalled: false, // a registry may come back
        cause: "127.0.0.1:9/no/such/image:v1",
        correction: json!({"image": image("hello-go")}),
    };
    is_diagnosed_and_healed(Stage::set("fault-image").await?, mistake).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_image_that_the_node_must_have_and_has_not() -> Result<()> {
    let mistake = Mistake {
        name: "never",
        spec: json!({"image": "pilotlight.dev/no-such-image:v1", "imagePullPolicy": "Never"}),
        reason: "ImagePullFailed",
        stalled: true,
        cause: "pilotlight.dev/no-such-image:v1",
        correction: json!({"image": image("hello-go")}),
    };
    is_diagnosed_and_healed(Stage::set("fault-never").await?, mistake).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_crash_at_start() -> Result<()> {
    let mistake = Mistake {
        name: "crash",
        spec: json!({
            "image": image("slow-start"),
            "env": [{"name": "START_DURATION", "value": "soon"}],
        }),
        reason: "ContainerCrashed",
        stalled: true,
        // What the container itself wrote to its standard error.
        cause: "START_DURATION must be a duration such as 5s or 1m30s",
        correction: json!({"env": [{"name": "START_DURATION", "value": "10ms"}]}),
    };
    is_diagnosed_and_healed(Stage::set("fault-crash").await?, mistake).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_readiness_probe_that_fails() -> Result<()> {
    let mistake = Mistake {
        name: "probe",
        spec: json!({"readinessProbe": {"httpGet": {"path": "/ready", "port": 9}}}),
        reason: "ProbeFailing",
        stalled: false,
        cause: "Readiness probe failed",
        correction: json!({"readinessProbe": null}),
    };
    is_diagnosed_and_healed(Stage::set("fault-probe").await?, mistake).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_quota_that_leaves_no_room() -> Result<()> {
    let stage = Stage::set("fault-quota").await?;
    let quota = json!({
        "metadata": {"name": "memory"},
        "spec": {"hard": {"requests.memory": "64Mi"}},
    });
    let quota: ResourceQuota = serde_json::from_value(quota)?;
    stage.api().create(&PostParams::default(), &quota).await?;
    let asks = |memory: &str| json!({"resources": {"requests": {"memory": memory}}});
    let mistake = Mistake {
        name: "quota",
        spec: asks("128Mi"),
        reason: "QuotaExceeded",
        stalled: false,
        cause: "exceeded quota: memory",
        correction: asks("16Mi"),
    };
    is_diagnosed_and_healed(stage, mistake).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn no_node_that_fits() -> Result<()> {
    let mistake = Mistake {
        name: "nowhere",
        spec: json!({"nodeSelector": {"pilotlight.dev/no-such-label": "true"}}),
        reason: "Unschedulable",
        stalled: false,
        cause: "spec.nodeSelector",
        correction: json!({"nodeSelector": null}),
    };
    is_diagnosed_and_healed(Stage::set("fault-nowhere").await?, mistake).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_secret_that_does_not_exist() -> Result<()> {
    let mistake = Mistake {
        name: "secret",
        spec: json!({"envFrom": [{"secretRef": {"name": "no-such-secret"}}]}),
        reason: "ContainerConfigInvalid",
        stalled: true,
        cause: "no-such-secret",
        correction: json!({"envFrom": null}),
    };
    is_diagnosed_and_healed(Stage::set("fault-secret").await?, mistake).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_command_that_does_not_exist() -> Result<()> {
    let mistake = Mistake {
        name: "command",
        spec: json!({"command": ["/no-such-command"]}),
        reason: "StartFailed",
        stalled: true,
        cause: "/no-such-command",
        correction: json!({"command": null}),
    };
    is_diagnosed_and_healed(Stage::set("fault-command").await?, mistake).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_grpc_caller_is_told_the_cause_in_grpcs_own_way() -> Result<()> {
    let stage = Stage::set("fault-grpc").await?;
    let spec = json!({
        "image": "pilotlight.dev/no-such-image:v1",
        "imagePullPolicy": "Never",
        "protocol": "H2C",
        "coldStart": {"timeoutSeconds": COLD_START.as_secs()},
    });
    stage.functions.create("grpc", spec).await?;
    stage.functions.condition("grpc", WORKLOAD_READY, "False").await?;
    stage.functions.condition("grpc", ROUTE_READY, "True").await?;
    stage.reachable("grpc").await?;

    let answer = protocols::say(&stage, "grpc", "nobody").await?;
    assert_eq!(answer.status.as_u16(), 200, "gRPC tells its errors in grpc-status, not in the HTTP status");
    assert_eq!(answer.header("grpc-status"), "14", "UNAVAILABLE");
    let message = answer.header("grpc-message");
    ensure!(
        message.contains("ImagePullFailed") && message.contains("pilotlight.dev/no-such-image:v1"),
        "grpc-message does not name the cause: {message:?}"
    );
    stage.strike().await
}
