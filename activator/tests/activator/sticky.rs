//! Clients stay with a revision: by a cookie that they are given, or by a header of theirs; at every activator, and while shares change.

use std::collections::BTreeSet;

use http::header::HeaderValue;
use pilotlight_crds::status::RouteOwner;
use pilotlight_crds::traffic::{Sticky, StickyCookie};
use pilotlight_crds::{Function, FunctionSpec};
use serde_json::json;

use crate::certificates::{Mount, client_config, connect, exchange, make, tls};
use crate::directions::{ask, revision, tags};
use crate::fleet::{Fleet, owned_by};
use crate::harness::{FakePod, Read, World, empty, read, send};
use crate::split::split;

const HOST: &str = "hello.shop";

fn by_cookie(spec: &mut FunctionSpec) {
    let cookie = StickyCookie { name: "seat".to_owned(), max_age_seconds: 60 };
    spec.sticky = Some(Sticky { cookie: Some(cookie), header: None });
}

fn by_header(spec: &mut FunctionSpec) {
    spec.sticky = Some(Sticky { cookie: None, header: Some("X-User".to_owned()) });
}

/// The Function with these shares, as the operator lists them: the largest first.
fn shared(function: &mut Function, sticky: fn(&mut FunctionSpec), shares: &[(&str, u32)]) {
    sticky(&mut function.spec);
    let route = function.status.as_mut().unwrap().route.as_mut().unwrap();
    route.revision = Some(shares[0].0.to_owned());
    route.split = split(shares);
    route.tags = serde_json::from_value(tags(&[("canary", "hello-2")])).unwrap();
}

async fn pods() -> [FakePod; 2] {
    [revision("hello-1").await, revision("hello-2").await]
}

/// The cookie that an answer gives, without its attributes.
fn given(answer: &Read) -> Option<String> {
    let mut cookies = answer.headers.get_all("set-cookie").iter();
    let cookie = cookies.next()?.to_str().unwrap();
    assert!(cookies.next().is_none(), "it is given once");
    let (pair, attributes) = cookie.split_once(';').unwrap();
    assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax; Max-Age=60");
    Some(pair.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_keeps_clients_where_they_are_but_for_those_who_must_move_at_every_activator() {
    let worlds = [World::new(), World::new()];
    let pods = pods().await;
    let share = |shares: &[(&str, u32)]| {
        for world in &worlds {
            world.apply(|function| shared(function, by_cookie, shares));
        }
    };
    share(&[("hello-1", 50), ("hello-2", 50)]);
    worlds.iter().for_each(|world| pods.iter().for_each(|pod| world.pod(pod)));
    let mut clients = Vec::new();
    for n in 0..60 {
        let first = ask(&worlds[n % 2], n.is_multiple_of(3), HOST, "/", &[]).await;
        clients.push((given(&first).unwrap(), first.body));
    }
    let numbers: BTreeSet<_> = clients.iter().map(|(cookie, _)| cookie).collect();
    assert_eq!(numbers.len(), clients.len(), "each has a number of its own");
    let back = async |n: usize, cookie: &str| {
        let answer = ask(&worlds[n % 2], n.is_multiple_of(3), HOST, "/", &[("cookie", cookie)]).await;
        assert_eq!(given(&answer), None, "it has one");
        assert_eq!(answer.headers["x-cookie"], cookie, "the pod sees it as it is");
        answer.body
    };
    for round in 0..4 {
        for (n, (cookie, revision)) in clients.iter().enumerate() {
            assert_eq!(back(n + round, cookie).await, *revision);
        }
    }
    share(&[("hello-2", 80), ("hello-1", 20)]);
    let mut moved = 0;
    for (n, (cookie, before)) in clients.iter().enumerate() {
        let after = back(n, cookie).await;
        assert_eq!(after, back(n + 1, cookie).await, "the activators agree");
        assert!(after == *before || (before == "hello-1" && after == "hello-2"), "{before} to {after}");
        moved += usize::from(after != *before);
    }
    let first = clients.iter().filter(|(_, before)| before == "hello-1").count();
    assert!(moved > 0 && moved < first, "some move, and some stay: {moved} of {first}");
    // Each number moves at the share that it says, and at no other.
    share(&[("hello-1", 50), ("hello-2", 50)]);
    for (n, (cookie, before)) in clients.iter().enumerate() {
        assert_eq!(back(n, cookie).await, *before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_was_drawn_gets_a_cookie() {
    let world = World::new();
    let pods = pods().await;
    pods.iter().for_each(|pod| world.pod(pod));
    world.apply(|function| shared(function, by_cookie, &[("hello-1", 50), ("hello-2", 50)]));
    assert_eq!(given(&ask(&world, false, "canary-hello.shop", "/", &[]).await), None, "it went by its tag");
    assert_eq!(given(&ask(&world, false, HOST, "/", &[("pilotlight-tag", "canary")]).await), None);
    for odd in ["seat=", "seat=1", "seat=0123456789abcdeg"] {
        assert!(given(&ask(&world, false, HOST, "/", &[("cookie", odd)]).await).is_some(), "{odd} is no number");
    }
    world.apply(|function| shared(function, by_cookie, &[("hello-1", 100)]));
    assert_eq!(given(&ask(&world, false, HOST, "/", &[]).await), None, "one revision has all but what is tagged");
    // Nobody is there, and nobody may wait.
    world.apply(|function| {
        shared(function, by_cookie, &[("hello-3", 50), ("hello-4", 50)]);
        function.spec.cold_start.pending_requests = 0;
        function.spec.traffic = serde_json::from_value(json!([{"revisionName": "hello-3"}])).unwrap();
    });
    let refused = ask(&world, false, HOST, "/", &[]).await;
    assert_eq!((refused.reason(), given(&refused)), ("QueueFull", None), "no revision answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_by_tls_keeps_its_cookie_to_tls() {
    let made = make(&[HOST]);
    let mount = Mount::new(&made);
    let world = crate::certificates::world(tls(&[&mount]));
    world.apply(|function| shared(function, by_cookie, &[("hello-1", 50), ("hello-2", 50)]));
    let pods = pods().await;
    pods.iter().for_each(|pod| world.pod(pod));
    let stream = connect(&world, client_config(&[&made], &["h2"]), HOST).await.unwrap();
    let answer = read(exchange(stream, world.get("/")).await).await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("seat=") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_keeps_its_value_with_one_revision_and_those_without_it_are_drawn() {
    let worlds = [World::new(), World::new()];
    let pods = pods().await;
    for world in &worlds {
        world.apply(|function| shared(function, by_header, &[("hello-1", 50), ("hello-2", 50)]));
        pods.iter().for_each(|pod| world.pod(pod));
    }
    // The upper half of all numbers is hello-2's: alice's begins with 3, a's with 8.
    for (user, wanted) in [("alice", "hello-1"), ("a", "hello-2"), ("42", "hello-2")] {
        for n in 0..10 {
            let answer = ask(&worlds[n % 2], n.is_multiple_of(3), HOST, "/", &[("x-user", user)]).await;
            assert_eq!((answer.body.as_str(), given(&answer)), (wanted, None), "{user}");
        }
    }
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        seen.insert(ask(&worlds[0], false, HOST, "/", &[]).await.body);
    }
    assert_eq!(seen.len(), 2, "one in 2^59 that sixty draws are all alike");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_owner_of_a_hard_limit_a_cookie_is_given_once_and_counts_at_both() {
    let mut fleet = Fleet::new(2);
    for pod in pods().await {
        fleet.add_pod(pod);
    }
    let owner: RouteOwner = owned_by(1, 1, &[0]);
    for n in 0..2 {
        let edit = |function: &mut Function| shared(function, by_cookie, &[("hello-1", 50), ("hello-2", 50)]);
        fleet.tell_with(n, Some(&owner), edit);
    }
    fleet.until_open().await;
    for n in 0..20 {
        let first = send(fleet.request(n % 2, n % 4 < 2, "GET", "/", empty())).await;
        let cookie = given(&first).unwrap();
        for m in 0..4 {
            let mut request = fleet.request(m % 2, m < 2, "GET", "/", empty());
            request.headers_mut().insert("cookie", HeaderValue::from_str(&cookie).unwrap());
            let again = send(request).await;
            assert_eq!((again.body.as_str(), given(&again)), (first.body.as_str(), None));
        }
    }
    // One of two revisions is news that the owner has not heard: it draws anew for that, and still there is but one cookie.
    let edit = |function: &mut Function| shared(function, by_cookie, &[("hello-1", 50), ("hello-9", 50)]);
    fleet.tell_with(0, Some(&owner), edit);
    for _ in 0..20 {
        let answer = send(fleet.request(0, true, "GET", "/", empty())).await;
        assert!(answer.status == 200 && given(&answer).is_some());
    }
    // The owner's own refusal, on its way back: no revision answered.
    for n in 0..2 {
        fleet.tell_with(n, Some(&owner), |function| {
            shared(function, by_cookie, &[("hello-3", 50), ("hello-4", 50)]);
            function.spec.cold_start.pending_requests = 0;
        });
    }
    for n in 0..2 {
        let refused = send(fleet.request(n, true, "GET", "/", empty())).await;
        assert_eq!((refused.reason(), given(&refused)), ("QueueFull", None));
    }
}
