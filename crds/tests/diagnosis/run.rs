//! Containers that ran and ended, and pods that wait for something outside.

use crate::builders::*;
use pilotlight_crds::diagnosis::Reason;
use serde_json::json;

pub(crate) fn crashes() -> Vec<Case> {
    vec![
        case(
            "a crash loop with last words",
            crashing(
                json!({"exitCode": 3, "reason": "Error", "message": "starting\npanic: DATABASE_URL is not set\n"}),
            ),
            (Reason::ContainerCrashed, NO),
            &["exit code 3", "its last words: starting panic: DATABASE_URL is not set"],
        ),
        case(
            "a crash loop whose last end is not told",
            crashing(json!(null)),
            (Reason::ContainerCrashed, NO),
            &["ends again and again", "kubectl logs --previous"],
        ),
        case(
            "the first crash",
            json!({
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{
                    "name": "function", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no config"}},
                }],
            }),
            (Reason::ContainerCrashed, POSSIBLY),
            &["exit code 1", "no config"],
        ),
        case(
            "running once more after crashes",
            running(false, json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "no config"}})),
            (Reason::ContainerCrashed, POSSIBLY),
            &["no config"],
        ),
        case(
            "a segmentation fault",
            crashing(json!({"exitCode": 139, "reason": "Error"})),
            (Reason::ContainerCrashed, NO),
            &["SIGSEGV (signal 11)", "exit code 139"],
        ),
        case(
            "a program that ends by itself",
            crashing(json!({"exitCode": 0, "reason": "Completed"})),
            (Reason::ContainerCrashed, NO),
            &["exit code 0 instead of serving"],
        ),
        case(
            "too little memory",
            crashing(json!({"exitCode": 137, "reason": "OOMKilled"})),
            (Reason::OOMKilled, NO),
            &["limit of 64Mi", "raise spec.resources.limits.memory"],
        ),
        case(
            "a mesh's container",
            json!({
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [
                    {"name": "function", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
                    {"name": "mesh", "image": "i", "imageID": "", "ready": false, "restartCount": 4,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}}},
                ],
            }),
            (Reason::ContainerCrashed, NO),
            &["The container \"mesh\" crashed with exit code 2"],
        ),
        case(
            "evicted",
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
            (Reason::PodFailed, POSSIBLY),
            &["evicted", "low on resource: memory;"],
        ),
    ]
}

pub(crate) fn outside() -> Vec<Case> {
    let unschedulable = |message: &str| {
        json!({
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
        })
    };
    let mut cases = vec![
        case(
            "a label that no node has",
            unschedulable(
                "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available.",
            ),
            (Reason::Unschedulable, POSSIBLY),
            &["0/3 nodes", "spec.nodeSelector"],
        ),
        case(
            "too much CPU",
            unschedulable("0/1 nodes are available: 1 Insufficient cpu."),
            (Reason::Unschedulable, POSSIBLY),
            &["Insufficient cpu", "spec.resources.requests"],
        ),
        case(
            "a claim that does not exist",
            unschedulable("0/1 nodes are available: persistentvolumeclaim \"data\" not found."),
            (Reason::Unschedulable, POSSIBLY),
            &["persistentvolumeclaim \"data\" not found", "create the claim"],
        ),
        case(
            "a failing readiness probe",
            running(false, json!({})),
            (Reason::ProbeFailing, POSSIBLY),
            &["Readiness probe failed", "connection refused", "spec.readinessProbe"],
        ),
        case(
            "restarted for its liveness probe",
            crashing(json!({"exitCode": 137, "reason": "Error"})),
            (Reason::ProbeFailing, POSSIBLY),
            &["restarted it 2 times", "statuscode: 500", "spec.livenessProbe"],
        ),
        case(
            "a volume from a ConfigMap that does not exist",
            waiting("ContainerCreating", ""),
            (Reason::VolumeMountFailed, NO),
            &["configmap \"settings\" not found", "spec.volumes"],
        ),
    ];
    cases[3].events = &[(
        "Unhealthy",
        "Readiness probe failed: Get \"http://10.0.0.9:9/ready\": dial tcp 10.0.0.9:9: connect: connection refused",
    )];
    cases[4].events = &[("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500")];
    cases[5].events = &[
        ("Scheduled", "Successfully assigned shop/hello-1 to node"),
        ("FailedMount", "MountVolume.SetUp failed for volume \"settings\" : configmap \"settings\" not found"),
    ];
    cases
}
