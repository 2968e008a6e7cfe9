//! Beacons on real sockets: what a starting pod says of its address, and what everybody else may say without effect.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::join_all;
use http::Request;
use pilotlight_activator::led;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::addresses::Addresses;
use crate::harness::{FakePod, Read, World, eventually, full, read, send};

/// A world, and what its API server says of addresses.
fn world() -> (World, Arc<Addresses>) {
    let addresses = Arc::new(Addresses::default());
    let world = World::configured(|config| config.addresses = addresses.clone());
    world.apply(|_| {});
    (world, addresses)
}

/// The pod as the watch shows it before Kubernetes knows its address.
fn starting(pod: &FakePod, edit: impl FnOnce(&mut Value)) -> k8s_openapi::api::core::v1::Pod {
    pod.object(|object| {
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "hello-1-abc", "uid": "rs", "controller": true,
        }]);
        let containers = object["spec"]["containers"].as_array_mut().unwrap();
        containers.push(json!({"name": "beacon"}));
        object["spec"]["nodeName"] = json!("node-1");
        object["status"] = json!({"phase": "Pending"});
        edit(object);
    })
}

fn word(pod: &FakePod) -> Value {
    json!({
        "namespace": "shop", "function": "hello", "revision": "hello-1",
        "uid": format!("uid-{}", pod.name), "ip": "127.0.0.1",
    })
}

/// Announces over a connection from `source`.
async fn announce_from(world: &World, source: &str, word: &Value) -> Read {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    let stream = socket.connect(world.activator.beacon).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/v1/beacon").header("host", "pilotlight").body(full(word.to_string())).unwrap();
    read(sender.send_request(request).await.unwrap()).await
}

async fn announce(world: &World, word: &Value) -> Read {
    announce_from(world, "127.0.0.1", word).await
}

async fn metrics(world: &World) -> String {
    let url = format!("http://{}/metrics", world.activator.admin);
    send(Request::get(url).body(crate::harness::empty()).unwrap()).await.body
}

async fn counted(world: &World, result: &str) -> u64 {
    let wanted = format!("pilotlight_activator_beacons_total{{result=\"{result}\"}} ");
    let text = metrics(world).await;
    text.lines().find_map(|line| line.strip_prefix(&wanted)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beacon_makes_a_pod_reachable_before_kubernetes_reports_its_address() {
    let (world, addresses) = world();
    let waiting = tokio::spawn(send(world.get("/")));
    world.until_load((0, 1)).await;
    let pod = FakePod::hello().await;
    world.activator.registry.apply_pod(&starting(&pod, |_| {}));
    let heard = announce(&world, &word(&pod)).await;
    assert_eq!((heard.status, heard.body.as_str()), (200, ""));
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    let timing = answer.headers["server-timing"].to_str().unwrap();
    assert!(timing.contains("beacon;dur=") && !timing.contains("ip-seen"), "{timing}");
    assert_eq!((counted(&world, "Believed").await, addresses.asked()), (1, 1));

    // Kubernetes says the same: nothing changes, and the connection is still used.
    let connections = pod.connections.load(std::sync::atomic::Ordering::Relaxed);
    let reported = starting(&pod, |object| object["status"] = json!({"phase": "Running", "podIP": "127.0.0.1"}));
    world.activator.registry.apply_pod(&reported);
    assert_eq!(send(world.get("/")).await.status, 200);
    assert_eq!(announce(&world, &word(&pod)).await.status, 200);
    assert_eq!(pod.connections.load(std::sync::atomic::Ordering::Relaxed), connections, "a new endpoint was made");
    assert_eq!((counted(&world, "Known").await, counted(&world, "Contradicted").await), (1, 0));
    assert_eq!(addresses.asked(), 1, "what is known is not asked about");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kubernetes_reports_wins() {
    let (world, _) = world();
    let (said, real) = (FakePod::hello().await, FakePod::start(|_| async { crate::harness::text("real") }).await);
    world.activator.registry.apply_pod(&starting(&said, |_| {}));
    assert_eq!(announce(&world, &word(&said)).await.status, 200);
    eventually("the announced address", || world.activator.registry.get(&crate::harness::key()).unwrap().usable() == 1)
        .await;
    // The same pod, elsewhere.
    let reported = starting(&said, |object| {
        object["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(real.address.port());
        object["status"] = json!({"phase": "Running", "podIP": "127.0.0.1"});
    });
    world.activator.registry.apply_pod(&reported);
    let answer = send(world.get("/")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "real"));
    assert_eq!(counted(&world, "Contradicted").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_comes_before_the_pod_is_seen_is_held() {
    let (world, _) = world();
    let pod = FakePod::hello().await;
    let (word, object) = (word(&pod), starting(&pod, |_| {}));
    let (heard, ()) = tokio::join!(announce(&world, &word), async {
        // Others come and go meanwhile.
        world.pod(&FakePod::silent("127.0.0.1:9".parse().unwrap()));
        world.activator.registry.apply_pod(&object);
    });
    assert_eq!(heard.status, 200);
    assert_eq!(counted(&world, "Believed").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_words_change_nothing_and_are_counted_by_reason() {
    let (world, addresses) = world();
    let pod = FakePod::hello().await;
    let object = starting(&pod, |_| {});
    world.activator.registry.apply_pod(&object);
    let without = FakePod::hello().await;
    world.activator.registry.apply_pod(&starting(&without, |object| {
        object["spec"]["containers"].as_array_mut().unwrap().pop();
    }));
    let unscheduled = FakePod::hello().await;
    world.activator.registry.apply_pod(&starting(&unscheduled, |object| {
        object["spec"].as_object_mut().unwrap().remove("nodeName");
    }));
    let unowned = FakePod::hello().await;
    world.activator.registry.apply_pod(&starting(&unowned, |object| {
        object["metadata"]["ownerReferences"][0]["name"] = json!("other-abc");
    }));
    let changed = |field: &str, value: &str| {
        let mut word = word(&pod);
        word[field] = json!(value);
        word
    };
    let rows = [
        ("OtherSource", "127.0.0.2", word(&pod)),
        ("OtherSource", "127.0.0.1", changed("ip", "127.0.0.3")),
        ("OtherRevision", "127.0.0.1", changed("revision", "hello-2")),
        ("UnknownPod", "127.0.0.1", changed("uid", "uid-guessed")),
        ("UnknownPod", "127.0.0.1", changed("function", "other")),
        ("NoBeacon", "127.0.0.1", word(&without)),
        ("NoBeacon", "127.0.0.1", word(&unowned)),
        ("NotScheduled", "127.0.0.1", word(&unscheduled)),
        ("Malformed", "127.0.0.1", json!({"namespace": "shop"})),
        ("Malformed", "127.0.0.1", changed("uid", &"x".repeat(2000))),
    ];
    let mut refused = Vec::new();
    // One source may have so many connections at once.
    for some in rows.chunks(4) {
        refused.extend(join_all(some.iter().map(|(_, source, word)| announce_from(&world, source, word))).await);
    }
    for ((reason, _, word), answer) in rows.iter().zip(refused) {
        assert!(answer.status >= 400, "{word}");
        assert!(answer.body.starts_with(reason), "{word}: {}", answer.body);
    }
    for (reason, count) in
        [("OtherSource", 2), ("OtherRevision", 1), ("UnknownPod", 2), ("NoBeacon", 2), ("Malformed", 2)]
    {
        assert_eq!(counted(&world, reason).await, count, "{reason}");
    }
    assert_eq!(counted(&world, "Believed").await, 0);
    assert_eq!(addresses.asked(), 0, "forgeries cost the API server nothing");
    assert_eq!(world.activator.registry.get(&crate::harness::key()).unwrap().usable(), 0);
    // The pod's own word still counts, and one that is replayed once it is over does not.
    assert_eq!(announce(&world, &word(&pod)).await.status, 200);
    world.activator.registry.delete_pod(&object);
    assert!(announce(&world, &word(&pod)).await.body.starts_with("UnknownPod"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pod_that_knows_the_uid_is_found_out_by_its_address() {
    let (world, addresses) = world();
    let pod = FakePod::hello().await;
    world.activator.registry.apply_pod(&starting(&pod, |_| {}));
    addresses.give_to("uid-of-mallory");
    let refused = announce(&world, &word(&pod)).await;
    assert!(refused.status == 403 && refused.body.starts_with("AnotherPodsAddress"), "{}", refused.body);
    // From then on only Kubernetes is believed about this pod, and nobody can make the activator ask again and again.
    let again = announce(&world, &word(&pod)).await;
    assert!(again.body.starts_with("Disputed"), "{}", again.body);
    assert_eq!(addresses.asked(), 1);
    assert_eq!(world.activator.registry.get(&crate::harness::key()).unwrap().usable(), 0);
    world.pod(&pod);
    assert_eq!(send(world.get("/")).await.status, 200, "it works by the watch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_is_taken_back_once_kubernetes_says_whose_address_it_is() {
    let (world, addresses) = world();
    let mallory = FakePod::hello().await;
    world.activator.registry.apply_pod(&starting(&mallory, |_| {}));
    // Both have just started, so Kubernetes knows nobody's address.
    assert_eq!(announce(&world, &word(&mallory)).await.status, 200);
    let usable = || world.activator.registry.get(&crate::harness::key()).unwrap().usable();
    eventually("the announced address", || usable() == 1).await;
    addresses.give_to("uid-of-mallory");
    eventually("no address", || usable() == 0).await;
    assert_eq!(counted(&world, "Contradicted").await, 1);
    assert!(announce(&world, &word(&mallory)).await.body.starts_with("Disputed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_activators_of_the_function_are_named() {
    let (world, _) = world();
    let pod = FakePod::hello().await;
    world.activator.registry.apply_pod(&starting(&pod, |_| {}));
    let slice = serde_json::from_value(json!({
        "metadata": {"name": "hello-pilotlight", "namespace": "shop"}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}],
    }))
    .unwrap();
    world.activator.shared.led.apply(&slice, &["10.0.0.1".parse().unwrap()]);
    assert_eq!(led::key(&slice), ("shop".to_owned(), "hello-pilotlight".to_owned()));
    let heard = announce(&world, &word(&pod)).await;
    let other = SocketAddr::new("10.0.0.2".parse().unwrap(), world.activator.beacon.port());
    assert_eq!((heard.status, heard.body), (200, format!("{other}\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_cannot_take_the_place_of_the_others() {
    let (world, _) = world();
    let connect = |source: &'static str| {
        let world = &world;
        async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
            socket.connect(world.activator.beacon).await.unwrap()
        }
    };
    // It connects, and says nothing.
    let silent: Vec<TcpStream> = join_all((0..64).map(|_| connect("127.0.0.9"))).await;
    let mut one_too_many = silent.into_iter().next_back().unwrap();
    let mut nothing = Vec::new();
    let _ = one_too_many.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty(), "it is turned away without a word");
    let pod = FakePod::hello().await;
    world.activator.registry.apply_pod(&starting(&pod, |_| {}));
    assert_eq!(announce(&world, &word(&pod)).await.status, 200);
    assert!(counted(&world, "Busy").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_dawdles_is_cut() {
    let (world, _) = world();
    let mut slow = TcpStream::connect(world.activator.beacon).await.unwrap();
    slow.write_all(b"POST /v1/beacon HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = slow.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
}
