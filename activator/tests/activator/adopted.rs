//! A Function that has taken over a Deployment: its pods carry none of Pilotlight's labels and are found by a watch of their own, which begins
//! and ends with what the Function's status says.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use pilotlight_activator::watch;
use pilotlight_crds::Function;
use pilotlight_crds::names::endpoint_slice_name;
use pilotlight_crds::target::TargetRef;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{FakePod, World, eventually, full, function, key, send, text};
use crate::ports::free_port;
use crate::wire::{Frames, Raw, channel, data};

/// What a fake API server tells: lists, and the watch of Functions, which the test feeds.
struct Api {
    functions: Value,
    /// Of all namespaces' pods by selector.
    pods: Value,
    asked: Vec<String>,
    watch: Option<Frames>,
    /// Bodies that never end.
    open: Vec<Frames>,
}

/// Serves `api`, and gives a client of it.
async fn served(api: Arc<Mutex<Api>>) -> (FakePod, kube::Client) {
    let server = FakePod::start(move |request: Request<Incoming>| {
        let api = api.clone();
        async move {
            let mut api = api.lock().unwrap();
            let uri = request.uri().to_string();
            let functions = uri.contains("/functions");
            if uri.contains("watch=true") {
                let (frames, body) = channel();
                if functions {
                    api.watch = Some(frames);
                } else {
                    api.open.push(frames);
                }
                return http::Response::new(body);
            }
            api.asked.push(uri);
            let items = if functions { &api.functions } else { &api.pods };
            let kind = if functions { "FunctionList" } else { "PodList" };
            let list = json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items});
            http::Response::new(full(list.to_string()))
        }
    })
    .await;
    let config = kube::Config::new(format!("http://{}", server.address).parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    (server, client)
}

/// The Function `hello`, which has taken over the Deployment `api`.
fn adopted(edit: impl FnOnce(&mut Function)) -> Function {
    function(|function| {
        function.spec.target_ref = Some(TargetRef::deployment("api"));
        let status = function.status.as_mut().unwrap();
        status.selector = Some("app=api".into());
        let route = status.route.as_mut().unwrap();
        route.revision = Some("api".into());
        route.target_port = Some(serde_json::from_value(json!("web")).unwrap());
        edit(function);
    })
}

/// A pod of the Deployment, as its owner made it.
fn plain(pod: &FakePod, deployment: &str) -> Value {
    let object = pod.object(|object| {
        object["metadata"]["labels"] = json!({"app": "api", "pod-template-hash": "5d"});
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-5d"), "uid": "r", "controller": true,
        }]);
        let port = pod.address.port();
        object["spec"]["containers"] = json!([
            {"name": "sidecar", "ports": [{"name": "metrics", "containerPort": 1}]},
            {"name": "app", "ports": [{"name": "web", "containerPort": port}]},
        ]);
    });
    serde_json::to_value(object).unwrap()
}

async fn changed(api: &Arc<Mutex<Api>>, function: &Function) {
    eventually("a watch of Functions", || api.lock().unwrap().watch.is_some()).await;
    let frames = api.lock().unwrap().watch.clone().unwrap();
    let mut object = serde_json::to_value(function).unwrap();
    object["metadata"]["resourceVersion"] = json!("2");
    let event = json!({"type": "MODIFIED", "object": object});
    frames.send(data(format!("{event}\n"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_an_adopted_deployment_are_found_by_its_selector_as_long_as_the_status_says_so() {
    let world = Arc::new(World::new());
    let pod = FakePod::start(|_| async { text("adopted") }).await;
    let stranger = FakePod::start(|_| async { text("somebody else's") }).await;
    let api = Arc::new(Mutex::new(Api {
        functions: json!([adopted(|_| {})]),
        pods: json!([plain(&pod, "api"), plain(&stranger, "other")]),
        asked: Vec::new(),
        watch: None,
        open: Vec::new(),
    }));
    let (_server, client) = served(api.clone()).await;
    let (shared, registry) = (world.activator.shared.clone(), world.activator.registry.clone());
    tokio::spawn(watch::functions(shared, registry.clone(), client, None));
    eventually("the Function", || registry.get(&key()).is_some()).await;
    for _ in 0..5 {
        assert_eq!(send(world.get("/")).await.body, "adopted");
    }
    let asked = api.lock().unwrap().asked.clone();
    let selected = |uri: &String| uri.contains("/namespaces/shop/pods?") && uri.contains("labelSelector=app%3Dapi");
    assert!(asked.iter().any(selected), "{asked:?}");

    // A fresh list of the pods with Pilotlight's labels, which these have not, says nothing about them.
    registry.retain_pods(&HashSet::new());
    assert_eq!(send(world.get("/")).await.body, "adopted");

    // Given back, and taken over again with a request waiting.
    changed(&api, &adopted(|function| function.status.as_mut().unwrap().selector = None)).await;
    let waiting = loop {
        let asking = world.clone();
        let waiting = tokio::spawn(async move { send(asking.get("/")).await });
        tokio::select! {
            () = world.until_load((0, 1)) => break waiting,
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        waiting.await.unwrap();
    };
    changed(&api, &adopted(|_| {})).await;
    assert_eq!(waiting.await.unwrap().body, "adopted");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_service_that_leads_elsewhere_are_asked_to_connect_anew() {
    let free = std::net::SocketAddr::from(([127, 0, 0, 1], free_port([])));
    let world = World::new();
    let registry = &world.activator.registry;
    registry.apply_function(&adopted(|f| f.status.as_mut().unwrap().route.as_mut().unwrap().port = free.port()));
    let pod = FakePod::hello().await;
    registry.apply_pod(&pod.object(|object| object["metadata"]["labels"]["pilotlight.dev/revision"] = json!("api")));
    eventually("the route port", || std::net::TcpStream::connect(free).is_ok()).await;
    let slice = ("shop".to_owned(), endpoint_slice_name("hello"));
    registry.led(&slice, true);
    let mut kept = Raw::on(TcpStream::connect(free).await.unwrap());
    let mut idle = Raw::on(TcpStream::connect(free).await.unwrap());
    let get = "GET / HTTP/1.1\r\nhost: hello.shop\r\n\r\n";
    for client in [&mut kept, &mut idle] {
        client.send(get).await;
        assert!(!client.answer().await.0.contains("connection: close"));
    }
    registry.led(&slice, false);
    kept.send(get).await;
    let (head, body) = kept.answer().await;
    assert!(head.contains("connection: close") && body == "hello", "{head}");
    assert!(idle.is_closed().await, "it has nothing to say");
    // Who is led here all the same is served.
    let mut late = Raw::on(TcpStream::connect(free).await.unwrap());
    late.send(get).await;
    assert_eq!(late.answer().await.1, "hello");
}
