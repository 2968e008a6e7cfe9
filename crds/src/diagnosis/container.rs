//! What the states of a pod's containers say. The function's own container comes first, then the others (a mesh's sidecar,
//! say), which the message names. The beacon is none of them: no pod needs it to serve.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod,
};

use super::{Diagnosis, PodEvent, Reason, WillItHealAlone, probe, words};
use crate::names::{BEACON_CONTAINER, CONTAINER};

/// Most bytes of a container's own last words in a message.
const LAST_WORDS_BYTES: usize = 500;

pub(super) fn diagnose(pod: &Pod, events: &[PodEvent]) -> Option<Diagnosis> {
    let status = pod.status.as_ref()?;
    let all = || {
        let main = status.container_statuses.iter().flatten();
        main.chain(status.init_container_statuses.iter().flatten())
    };
    let others = || all().filter(|c| c.name != CONTAINER && c.name != BEACON_CONTAINER);
    all().filter(|c| c.name == CONTAINER).chain(others()).find_map(|c| one(pod, c, events))
}

/// Whether the function's container ends again and again.
pub(super) fn crashes(pod: &Pod) -> bool {
    let mut statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let waiting =
        |status: &ContainerStatus| status.state.as_ref().and_then(|state| state.waiting.as_ref()?.reason.clone());
    statuses.any(|status| status.name == CONTAINER && waiting(status).as_deref() == Some("CrashLoopBackOff"))
}

fn one(pod: &Pod, status: &ContainerStatus, events: &[PodEvent]) -> Option<Diagnosis> {
    if status.ready {
        return None;
    }
    let subject = subject(&status.name);
    let state = status.state.as_ref();
    let ended = |state: Option<&ContainerState>| state.and_then(|s| s.terminated.clone());
    if let Some(waiting) = state.and_then(|s| s.waiting.as_ref()) {
        if waiting.reason.as_deref() != Some("CrashLoopBackOff") {
            return waits(&subject, &image(pod, status), waiting).or_else(|| {
                // Between two attempts: the last one's end is the best that is known.
                let last = ended(status.last_state.as_ref())?;
                died(pod, status, &last, WillItHealAlone::Possibly, events)
            });
        }
        let Some(last) = ended(status.last_state.as_ref()) else {
            return Some(Diagnosis::new(
                Reason::ContainerCrashed,
                WillItHealAlone::No,
                format!("{subject} ends again and again; see kubectl logs --previous"),
            ));
        };
        return died(pod, status, &last, WillItHealAlone::No, events);
    }
    // An init container that has done its work ends with 0, and a pod waits for the next.
    let last = ended(state).or_else(|| ended(status.last_state.as_ref()))?;
    let init = pod
        .spec
        .as_ref()
        .and_then(|s| s.init_containers.as_ref())
        .is_some_and(|all| all.iter().any(|c| c.name == status.name));
    if init && last.exit_code == 0 {
        return None;
    }
    died(pod, status, &last, WillItHealAlone::Possibly, events)
}

fn subject(container: &str) -> String {
    if container == CONTAINER { "The container".to_owned() } else { format!("The container {container:?}") }
}

fn image(pod: &Pod, status: &ContainerStatus) -> String {
    spec(pod, &status.name).and_then(|c| c.image.clone()).unwrap_or_else(|| status.image.clone())
}

fn spec<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    spec.containers.iter().chain(init).find(|c| c.name == name)
}

fn waits(subject: &str, image: &str, waiting: &ContainerStateWaiting) -> Option<Diagnosis> {
    let said = words::sentence(waiting.message.as_deref().unwrap_or_default());
    let because = |cause: String| match said.as_str() {
        "" => cause,
        said => format!("{cause}: {said}"),
    };
    let image = words::head(image, 300);
    match waiting.reason.as_deref()? {
        "InvalidImageName" => Some(Diagnosis::new(
            Reason::InvalidImageName,
            WillItHealAlone::No,
            format!(
                "{}; correct spec.image (lower case, as in registry.example.com/team/app:1.0)",
                because(format!("{image:?} is not the name of an image"))
            ),
        )),
        "ErrImageNeverPull" => Some(Diagnosis::new(
            Reason::ImagePullFailed,
            WillItHealAlone::No,
            format!(
                "The image {image:?} is not on the node and spec.imagePullPolicy is Never; load it there or let it be pulled"
            ),
        )),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed" => Some(not_pulled(&image, &said)),
        "CreateContainerConfigError" => Some(Diagnosis::new(
            Reason::ContainerConfigInvalid,
            WillItHealAlone::No,
            format!("{}; {}", because(format!("{subject} cannot be configured")), config_remedy(&said)),
        )),
        "CreateContainerError"
        | "RunContainerError"
        | "PreStartHookError"
        | "PostStartHookError"
        | "PreCreateHookError" => Some(start_failed(subject, &said)),
        _ => None,
    }
}

fn not_pulled(image: &str, said: &str) -> Diagnosis {
    // kubelet's back-off message is only 'Back-off pulling image "…"', later ones carry the registry's words too.
    let lower = said.to_lowercase();
    let any = |signs: &[&str]| signs.iter().any(|sign| lower.contains(sign));
    let (healing, remedy) = if any(&["not found", "manifest unknown", "name unknown", "not exist"]) {
        (
            WillItHealAlone::No,
            "correct spec.image, or push the image (a registry may say so of a private one: then set spec.imagePullSecrets)",
        )
    } else if any(&["unauthorized", "denied", "forbidden", "401", "403", "authentication required"]) {
        (WillItHealAlone::No, "the registry wants credentials: set spec.imagePullSecrets, or make the image public")
    } else if any(&["no match for platform", "exec format"]) {
        (WillItHealAlone::No, "build the image for the nodes' architecture, or choose nodes by spec.nodeSelector")
    } else if any(&["signature", "no such host", "x509", "http response to https client"]) {
        (WillItHealAlone::No, "check the registry in spec.image, and that nodes can reach and trust it")
    } else {
        (WillItHealAlone::Possibly, "check spec.image and that nodes can reach its registry; it is tried again")
    };
    let said = match said {
        "" => String::new(),
        said => format!(": {said}"),
    };
    Diagnosis::new(Reason::ImagePullFailed, healing, format!("The image {image:?} cannot be pulled{said}; {remedy}"))
}

fn config_remedy(said: &str) -> &'static str {
    if said.contains("runAsNonRoot") || said.contains("non-root") || said.contains("non-numeric") {
        "let the image run as a numbered user other than 0, or set spec.securityContext.runAsUser (or runAsNonRoot: false)"
    } else if said.contains("not found") || said.contains("couldn't find key") {
        "create what spec.env and spec.envFrom name, or correct the name"
    } else {
        "check spec.env, spec.envFrom and spec.volumeMounts"
    }
}

fn start_failed(subject: &str, said: &str) -> Diagnosis {
    let remedy = if said.contains("exec format error") {
        "build the image for the nodes' architecture"
    } else if said.contains("permission denied") {
        "make the file executable for the user that the container runs as"
    } else if said.contains("not found") || said.contains("no such file") || said.contains("no command specified") {
        "correct spec.command and spec.args, or the image's entrypoint"
    } else {
        "check spec.command, spec.args, spec.volumeMounts and the image"
    };
    let said = match said {
        "" => String::new(),
        said => format!(": {said}"),
    };
    Diagnosis::new(Reason::StartFailed, WillItHealAlone::No, format!("{subject} cannot be started{said}; {remedy}"))
}

fn died(
    pod: &Pod,
    status: &ContainerStatus,
    last: &ContainerStateTerminated,
    healing: WillItHealAlone,
    events: &[PodEvent],
) -> Option<Diagnosis> {
    let subject = subject(&status.name);
    let reason = last.reason.as_deref().unwrap_or_default();
    if matches!(reason, "StartError" | "ContainerCannotRun") {
        let said = words::sentence(last.message.as_deref().unwrap_or_default());
        return Some(start_failed(&subject, &said));
    }
    let own_words = match words::tail(last.message.as_deref().unwrap_or_default(), LAST_WORDS_BYTES) {
        said if said.is_empty() => String::new(),
        said => format!("; its last words: {said}"),
    };
    if reason == "OOMKilled" {
        let limit = spec(pod, &status.name)
            .and_then(|c| c.resources.as_ref()?.limits.as_ref()?.get("memory"))
            .map(|q| format!(" of {}", q.0))
            .unwrap_or_default();
        return Some(Diagnosis::new(
            Reason::OOMKilled,
            healing,
            format!(
                "{subject} used more memory than its limit{limit} and was killed; raise spec.resources.limits.memory{own_words}"
            ),
        ));
    }
    // A process that kubelet stops for its liveness or startup probe did not crash: the probe is what to look at.
    if matches!(last.exit_code, 137 | 143 | 0)
        && let Some(probed) = probe::stopped(status, events)
    {
        return Some(probed);
    }
    Some(Diagnosis::new(
        Reason::ContainerCrashed,
        healing,
        format!("{subject} {}{own_words}", how_it_ended(last.exit_code, last.signal)),
    ))
}

fn how_it_ended(exit_code: i32, signal: Option<i32>) -> String {
    let signal = signal.filter(|s| *s > 0).or_else(|| (129..=192).contains(&exit_code).then(|| exit_code - 128));
    match (exit_code, signal) {
        (0, None) => {
            "ended with exit code 0 instead of serving; spec.command must keep running and listen on PORT".to_owned()
        }
        (code, None) => format!("crashed with exit code {code}; see kubectl logs --previous"),
        (code, Some(signal)) => {
            let name = signal_name(signal)
                .map_or_else(|| format!("signal {signal}"), |name| format!("{name} (signal {signal})"));
            format!("was ended by {name}, exit code {code}; see kubectl logs --previous")
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return None,
    })
}
