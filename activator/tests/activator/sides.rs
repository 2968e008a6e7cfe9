//! Who comes from outside the cluster reaches only Functions that may be reached from there, and only by their names outside.

use http::Request;
use pilotlight_crds::routing::Visibility;
use serde_json::json;

use crate::harness::{FakePod, World, empty, send};

/// Status and reason of a request that came by this port.
async fn ask(world: &World, outside: bool, host: &str) -> (u16, String) {
    let at = if outside { world.activator.external } else { world.activator.http };
    let request = Request::get(format!("http://{at}/")).header("host", host).body(empty()).unwrap();
    let read = send(request).await;
    (read.status, read.reason().to_owned())
}

#[tokio::test]
async fn from_outside_only_names_of_that_side_lead_to_functions_that_may_be_reached_from_there() {
    let pod = FakePod::hello().await;
    let world = World::new();
    world.pod(&pod);
    let (found, nowhere) = ((200, String::new()), (404, "UnknownHost".to_owned()));
    for visibility in [Visibility::External, Visibility::Cluster, Visibility::External] {
        world.apply(|function| {
            function.spec.visibility = visibility;
            function.spec.hostnames = vec!["www.example.com".to_owned()];
            let status = function.status.as_mut().unwrap();
            status.hostnames = vec!["www.example.com".to_owned()];
            let tags = json!([{"tag": "next", "revision": "hello-1", "url": ""}]);
            status.route.as_mut().unwrap().tags = serde_json::from_value(tags).unwrap();
        });
        let outside = if visibility.is_external() { &found } else { &nowhere };
        for host in ["hello.shop.fn.example.com", "next-hello.shop.fn.example.com", "www.example.com"] {
            assert_eq!(ask(&world, true, host).await, *outside, "{host}, {visibility:?}");
            assert_eq!(ask(&world, false, host).await, *outside, "{host} from inside, {visibility:?}");
        }
        for host in ["hello.shop", "hello.shop.svc", "next-hello.shop.svc.cluster.local"] {
            assert_eq!(ask(&world, true, host).await, nowhere, "{host}, {visibility:?}");
            assert_eq!(ask(&world, false, host).await, found, "{host} from inside, {visibility:?}");
        }
    }
}
