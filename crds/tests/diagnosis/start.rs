//! Containers that do not get to run.

use crate::builders::*;
use pilotlight_crds::diagnosis::Reason;
use serde_json::json;

pub(crate) fn images() -> Vec<Case> {
    vec![
        case(
            "a tag that does not exist",
            waiting(
                "ErrImagePull",
                "rpc error: code = NotFound desc = failed to pull and unpack image \"registry.example.com/hello:v1\": failed to resolve reference \"registry.example.com/hello:v1\": registry.example.com/hello:v1: not found",
            ),
            (Reason::ImagePullFailed, NO),
            &["registry.example.com/hello:v1", "correct spec.image"],
        ),
        case(
            "a private image",
            waiting(
                "ImagePullBackOff",
                "Back-off pulling image \"registry.example.com/hello:v1\": ErrImagePull: failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
            ),
            (Reason::ImagePullFailed, NO),
            &["401 Unauthorized", "spec.imagePullSecrets"],
        ),
        case(
            "a registry that does not answer right now",
            waiting(
                "ErrImagePull",
                "failed to do request: Head \"https://127.0.0.1:9/v2/hello/manifests/v1\": dial tcp 127.0.0.1:9: connect: connection refused",
            ),
            (Reason::ImagePullFailed, POSSIBLY),
            &["connection refused", "tried again"],
        ),
        case(
            "an image that the node must have",
            waiting(
                "ErrImageNeverPull",
                "Container image \"registry.example.com/hello:v1\" is not present with pull policy of Never",
            ),
            (Reason::ImagePullFailed, NO),
            &["spec.imagePullPolicy is Never"],
        ),
        case(
            "a name in upper case",
            waiting(
                "InvalidImageName",
                "Failed to apply default image tag \"registry.example.com/Hello:v1\": couldn't parse image name \"registry.example.com/Hello:v1\": invalid reference format: repository name must be lowercase",
            ),
            (Reason::InvalidImageName, NO),
            &["must be lowercase", "correct spec.image"],
        ),
    ]
}

pub(crate) fn starts() -> Vec<Case> {
    vec![
        case(
            "a Secret that does not exist",
            waiting("CreateContainerConfigError", "secret \"db\" not found"),
            (Reason::ContainerConfigInvalid, NO),
            &["secret \"db\" not found", "spec.envFrom"],
        ),
        case(
            "a key that a ConfigMap does not have",
            waiting("CreateContainerConfigError", "couldn't find key url in ConfigMap shop/settings"),
            (Reason::ContainerConfigInvalid, NO),
            &["key url", "spec.env"],
        ),
        case(
            "an image that runs as root",
            waiting(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image will run as root (pod: \"hello-1-6c9f7d-x2x4z_shop(0b7f)\", container: function)",
            ),
            (Reason::ContainerConfigInvalid, NO),
            &["image will run as root", "spec.securityContext.runAsUser"],
        ),
        case(
            "a command that does not exist",
            waiting(
                "RunContainerError",
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/no-such\": stat /no-such: no such file or directory: unknown",
            ),
            (Reason::StartFailed, NO),
            &["/no-such", "spec.command"],
        ),
        case(
            "a command that does not exist, tried again",
            crashing(json!({
                "exitCode": 128, "reason": "StartError",
                "message": "failed to create containerd task: exec: \"nope\": executable file not found in $PATH: unknown",
            })),
            (Reason::StartFailed, NO),
            &["executable file not found", "spec.command"],
        ),
        case(
            "an image without a command",
            waiting("CreateContainerError", "failed to generate container spec: no command specified"),
            (Reason::StartFailed, NO),
            &["no command specified", "entrypoint"],
        ),
        case(
            "an image for another architecture",
            crashing(json!({"exitCode": 128, "reason": "StartError", "message": "exec /app: exec format error"})),
            (Reason::StartFailed, NO),
            &["nodes' architecture"],
        ),
    ]
}
