//! The objects that taking over is about, as the caches or the API server show them.
//!
//! What always holds: a [`Scene`] says of them what `next` needs and nothing else.

use futures::try_join;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, GetParams, ListParams};
use kube::{Client, ResourceExt};
use pilotlight_crds::Function;
use pilotlight_crds::names::{FINALIZER_RELEASE, LABEL_SERVICE_NAME};
use pilotlight_crds::target::TargetRef;

use super::fit::{Fit, Unfit, fit};
use super::next::{Aim, Scene, ServiceScene, Slice};
use super::note::{Selector, is_noted, noted_replicas, noted_selector};
use crate::apply::ApplyError;
use crate::context::Context;
use crate::drift::holds;
use crate::observe::is_ours;

/// What is there.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The Function.
    pub function: Function,
    /// The Deployment that it names.
    pub deployment: Option<Deployment>,
    /// The Service of its name.
    pub service: Option<Service>,
    /// Pilotlight's EndpointSlice.
    pub slice: Option<EndpointSlice>,
    /// The Service's other EndpointSlices.
    pub others: Vec<EndpointSlice>,
    /// Whether the namespace is being deleted, and so the Function with all the rest.
    pub all_goes: bool,
}

/// Name of the Deployment that the Function names.
pub fn target_of(function: &Function) -> &str {
    TargetRef::of(function).map(|target| target.name.as_str()).unwrap_or_default()
}

/// As the caches show them; they know only what is labelled, so what they lack is asked for, and everything once.
pub async fn cached(context: &Context, function: &Function) -> Result<Option<Seen>, ApplyError> {
    let (namespace, name) = (function.namespace().unwrap_or_default(), function.name_any());
    let caches = &context.caches;
    let deployment = caches.deployments.get(&namespace, target_of(function));
    let service = caches.services.get(&namespace, &name);
    let uid = function.uid().unwrap_or_default();
    let known = context.with_memory(&uid, |memory| std::mem::replace(&mut memory.target_seen, true));
    let (Some(deployment), Some(service), true) = (deployment, service, known) else {
        return live(&context.client, function).await;
    };
    let slices = caches.slices.of(&namespace, &name).into_iter().map(|slice| slice.as_ref().clone());
    let (slice, others) = sorted(&name, slices);
    Ok(Some(Seen {
        function: function.clone(),
        deployment: Some(deployment.as_ref().clone()),
        service: Some(service.as_ref().clone()),
        slice,
        others,
        all_goes: all_goes(&context.client, function).await?,
    }))
}

/// As the API server shows them. `None`: there is no such Function any more.
pub async fn live(client: &Client, function: &Function) -> Result<Option<Seen>, ApplyError> {
    let (namespace, name) = (function.namespace().unwrap_or_default(), function.name_any());
    let functions: Api<Function> = Api::namespaced(client.clone(), &namespace);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace);
    let of_service = ListParams::default().labels(&format!("{LABEL_SERVICE_NAME}={name}"));
    let read = try_join!(
        functions.get_opt(&name),
        deployments.get_opt(target_of(function)),
        services.get_opt(&name),
        slices.list(&of_service),
    );
    let (now, deployment, service, slices) = read.map_err(|error| ApplyError {
        operation: "read",
        kind: "target of Function",
        name: name.clone(),
        source: Box::new(error),
    })?;
    let Some(now) = now.filter(|now| now.uid() == function.uid()) else {
        return Ok(None);
    };
    let (slice, others) = sorted(&name, slices.items.into_iter());
    let all_goes = all_goes(client, &now).await?;
    Ok(Some(Seen { function: now, deployment, service, slice, others, all_goes }))
}

/// Whether the Function goes because its namespace does. Asked as long as a release takes, so what the API server has at hand will do.
async fn all_goes(client: &Client, function: &Function) -> Result<bool, ApplyError> {
    if function.metadata.deletion_timestamp.is_none() {
        return Ok(false);
    }
    let (namespaces, name) = (Api::<Namespace>::all(client.clone()), function.namespace().unwrap_or_default());
    match namespaces.get_metadata_with(&name, &GetParams::any()).await {
        Ok(namespace) => Ok(namespace.metadata.deletion_timestamp.is_some()),
        // An older cluster role: it is given back as anywhere.
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(false),
        Err(error) => Err(ApplyError { operation: "read", kind: "Namespace", name, source: Box::new(error) }),
    }
}

/// Pilotlight's slice of the Service, and the others.
fn sorted(service: &str, slices: impl Iterator<Item = EndpointSlice>) -> (Option<EndpointSlice>, Vec<EndpointSlice>) {
    let of_service = |slice: &EndpointSlice| {
        slice.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_SERVICE_NAME)).is_some_and(|of| of == service)
    };
    let (mine, others): (Vec<_>, Vec<_>) = slices.filter(of_service).partition(is_ours);
    (mine.into_iter().next(), others)
}

impl Seen {
    /// Whether the target can be taken over.
    pub fn fit(&self) -> Result<Fit, Unfit> {
        let (deployment, service) = (self.deployment.as_ref(), self.service.as_ref());
        fit(&self.function.name_any(), target_of(&self.function), deployment, service)
    }

    /// Whether anything has been taken over, or is about to be.
    pub fn begun(&self) -> bool {
        self.slice.is_some() || self.service.as_ref().is_some_and(is_noted)
    }

    /// Replicas that the Deployment had when it was taken over.
    pub fn noted_replicas(&self) -> Option<u32> {
        self.service.as_ref().and_then(noted_replicas)
    }

    /// How things are, for `next`. `desired`: Pilotlight's slice as it should be; `None` where nobody knows.
    pub fn scene(&self, aim: Aim, desired: Option<&EndpointSlice>) -> Scene {
        let deployment = self.deployment.as_ref().filter(|it| it.metadata.deletion_timestamp.is_none());
        let spec = deployment.and_then(|deployment| deployment.spec.as_ref());
        let replicas = spec.map(|spec| spec.replicas.and_then(|replicas| u32::try_from(replicas).ok()).unwrap_or(1));
        Scene {
            aim,
            bound: self.function.finalizers().iter().any(|finalizer| finalizer == FINALIZER_RELEASE),
            service: self.service.as_ref().map(service_scene),
            replicas,
            pods: spec.and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default(),
            slice: match (&self.slice, desired) {
                (None, _) => Slice::Missing,
                (Some(live), Some(desired)) if !is_right(live, desired) => Slice::Stale,
                (Some(_), _) => Slice::Right,
            },
            target: desired.is_some(),
            others: !self.others.is_empty(),
            others_ready: self.others.iter().any(has_ready),
            patient: true,
            lingered: false,
            all_goes: self.all_goes,
        }
    }
}

fn service_scene(service: &Service) -> ServiceScene {
    let selector: Option<Selector> = service.spec.as_ref().and_then(|spec| spec.selector.clone());
    ServiceScene {
        selector: selector.filter(|selector| !selector.is_empty()),
        noted_selector: noted_selector(service),
        noted_replicas: noted_replicas(service),
        noted: is_noted(service),
    }
}

fn is_right(live: &EndpointSlice, desired: &EndpointSlice) -> bool {
    holds(live, desired) && live.endpoints.len() == desired.endpoints.len()
}

fn has_ready(slice: &EndpointSlice) -> bool {
    slice.endpoints.iter().any(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::slice::{Address, Target, adopted_slice};
    use http_body_util::Full;
    use hyper::body::{Bytes, Incoming};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};
    use std::convert::Infallible;
    use tokio::net::TcpListener;

    fn seen(service: Value) -> Seen {
        let function = json!({
            "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function",
            "metadata": {"name": "web", "namespace": "shop", "uid": "f", "finalizers": ["pilotlight.dev/release"]},
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}},
        });
        let deployment = json!({
            "metadata": {"name": "api"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "api"}}, "template": {}},
        });
        Seen {
            function: serde_json::from_value(function).unwrap(),
            deployment: serde_json::from_value(deployment).unwrap(),
            service: serde_json::from_value(service).unwrap(),
            slice: None,
            others: Vec::new(),
            all_goes: false,
        }
    }

    fn service() -> Value {
        json!({
            "metadata": {"name": "web", "uid": "s", "annotations": {
                "pilotlight.dev/selector": "{\"app\":\"api\"}", "pilotlight.dev/replicas": "2",
            }},
            "spec": {"ports": [{"name": "front", "port": 8000, "appProtocol": "http"}]},
        })
    }

    fn activators(ips: &[&str]) -> Target {
        let address = |ip: &&str| Address { ip: ip.parse().unwrap(), node: None, pod: None };
        Target { port: 12_000, addresses: ips.iter().map(address).collect() }
    }

    #[test]
    fn the_slice_is_the_service_s_and_has_its_port_s_name() {
        let seen = seen(service());
        let slice = adopted_slice(&seen.function, seen.service.as_ref().unwrap(), &activators(&["10.0.0.1"]));
        let owner = &slice.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Service", "s", None));
        let port = &slice.ports.as_ref().unwrap()[0];
        assert_eq!(
            (port.name.as_deref(), port.port, port.app_protocol.as_deref()),
            (Some("front"), Some(12_000), Some("http"))
        );
    }

    #[test]
    fn a_slice_that_leads_elsewhere_is_stale_and_one_that_nobody_knows_better_is_right() {
        let mut seen = seen(service());
        let build =
            |seen: &Seen, ips: &[&str]| adopted_slice(&seen.function, seen.service.as_ref().unwrap(), &activators(ips));
        let desired = build(&seen, &["10.0.0.1"]);
        let scene = seen.scene(Aim::Adopt, Some(&desired));
        assert_eq!((scene.slice, scene.target, scene.bound, scene.replicas), (Slice::Missing, true, true, Some(2)));
        let service = scene.service.unwrap();
        assert_eq!((service.selector.clone(), service.noted_replicas), (None, Some(2)));
        assert_eq!(service.noted_selector, Some(scene.pods));
        seen.slice = Some(desired.clone());
        assert_eq!(seen.scene(Aim::Adopt, Some(&desired)).slice, Slice::Right);
        assert_eq!(seen.scene(Aim::Adopt, None).slice, Slice::Right);
        for other in [&["10.0.0.2"][..], &["10.0.0.1", "10.0.0.2"], &[]] {
            assert_eq!(seen.scene(Aim::Adopt, Some(&build(&seen, other))).slice, Slice::Stale, "{other:?}");
        }
    }

    #[test]
    fn kubernetes_own_slices_are_told_from_ours() {
        let slice = |name: &str, service: &str, by: &str, ready: bool| -> EndpointSlice {
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {
                    "kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": by,
                }},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.9"], "conditions": {"ready": ready}}],
            }))
            .unwrap()
        };
        let kubernetes = "endpointslice-controller.k8s.io";
        let all = [
            slice("web-x", "web", kubernetes, false),
            slice("web-pilotlight", "web", "pilotlight.dev", true),
            slice("else", "other", kubernetes, true),
        ];
        let (mine, others) = sorted("web", all.into_iter());
        assert_eq!(mine.map(|slice| slice.name_any()).as_deref(), Some("web-pilotlight"));
        let mut seen = Seen { others, ..seen(service()) };
        let scene = seen.scene(Aim::Release, None);
        assert_eq!((scene.others, scene.others_ready), (true, false));
        seen.others.push(slice("web-y", "web", kubernetes, true));
        assert!(seen.scene(Aim::Release, None).others_ready);
    }

    /// An API server that has one answer to everything.
    async fn api_server(status: u16, answer: Value) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let body = Bytes::from(answer.to_string());
                let service = service_fn(move |_: Request<Incoming>| {
                    let answer = Response::builder().status(status).body(Full::new(body.clone())).unwrap();
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Client::try_from(kube::Config::new(format!("http://{address}").parse().unwrap())).unwrap()
    }

    #[tokio::test]
    async fn all_goes_where_function_and_namespace_are_deleted_and_known_to_be() {
        let namespace = |metadata: Value| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata});
        let going = namespace(json!({"name": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        let refusal = json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "Forbidden",
            "message": "cannot get namespaces", "code": 403,
        });
        let function = seen(service()).function;
        let mut deleted = function.clone();
        deleted.metadata.deletion_timestamp = Some(Time("2026-01-01T00:00:01Z".parse().unwrap()));
        let stays = namespace(json!({"name": "shop"}));
        for (status, answer, expected) in [(200, going, true), (200, stays, false), (403, refusal, false)] {
            let client = api_server(status, answer.clone()).await;
            assert_eq!(all_goes(&client, &deleted).await.unwrap(), expected, "{answer}");
            assert!(!all_goes(&client, &function).await.unwrap(), "who is not deleted goes with nobody");
        }
    }
}
