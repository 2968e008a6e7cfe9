//! Tags and rules lead requests to a revision whatever the shares, in both versions of HTTP, and over the owner of a hard limit.

use http::header::{HeaderName, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use pilotlight_activator::route::Side;
use serde_json::{Value, json};

use crate::fleet::{Fleet, owned_by};
use crate::harness::{Body, FakePod, Read, World, empty, function, read, send, text};
use crate::split::split;
use crate::wire::h2;

/// A pod that answers with its revision's name, and sees nothing that is the activators' own.
pub(crate) async fn revision(name: &'static str) -> FakePod {
    let serve = move |request: Request<Incoming>| async move {
        let internal = request.headers().keys().find(|name| name.as_str().starts_with("pilotlight-"));
        let mut response: Response<Body> = text(internal.map_or(name.to_owned(), ToString::to_string));
        let cookies = request.headers().get_all("cookie").iter().cloned();
        response.headers_mut().extend(cookies.map(|cookie| (HeaderName::from_static("x-cookie"), cookie)));
        response
    };
    let mut pod = FakePod::start(serve).await;
    pod.revision = name.to_owned();
    pod
}

/// What the operator says of tags, as in a status.
pub(crate) fn tags(tags: &[(&str, &str)]) -> Value {
    tags.iter().map(|(tag, revision)| json!({"tag": tag, "revision": revision, "url": ""})).collect()
}

/// All traffic goes to `hello-1`, but for these tags and rules.
fn direct(world: &World, tagged: &[(&str, &str)], rules: &Value) {
    world.apply(|function| {
        let route = function.status.as_mut().unwrap().route.as_mut().unwrap();
        route.tags = serde_json::from_value(tags(tagged)).unwrap();
        route.matches = serde_json::from_value(rules.clone()).unwrap();
    });
}

/// The answer to a request for a host and a path, with these fields.
pub(crate) async fn ask(world: &World, over_h2: bool, host: &str, path: &str, fields: &[(&str, &str)]) -> Read {
    let mut request = Request::get(format!("http://{host}{path}")).body(empty()).unwrap();
    for (name, value) in fields {
        request.headers_mut().append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    if over_h2 {
        return read(h2(world).await.send_request(request).await.unwrap()).await;
    }
    request.headers_mut().insert("host", HeaderValue::from_str(host).unwrap());
    *request.uri_mut() = format!("http://{}{path}", world.activator.http).parse().unwrap();
    send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_leads_to_its_revision_by_host_and_by_header() {
    let world = World::new();
    direct(&world, &[("canary", "hello-2"), ("stable", "hello-1")], &json!([]));
    let pods = [revision("hello-1").await, revision("hello-2").await];
    pods.iter().for_each(|pod| world.pod(pod));
    for over_h2 in [false, true] {
        for (host, tag, wanted) in [
            ("hello.shop", None, "hello-1"),
            ("canary-hello.shop", None, "hello-2"),
            ("Canary-Hello.shop.svc:80", None, "hello-2"),
            ("canary-hello.shop.svc.cluster.local", None, "hello-2"),
            ("canary-hello.shop.fn.example.com", None, "hello-2"),
            ("stable-hello.shop", None, "hello-1"),
            ("hello.shop", Some("canary"), "hello-2"),
            ("hello.shop", Some("unknown"), "hello-1"),
            ("canary-hello.shop", Some("stable"), "hello-2"),
        ] {
            let field = tag.map(|tag| ("Pilotlight-Tag", tag));
            let answer = ask(&world, over_h2, host, "/", &field.into_iter().collect::<Vec<_>>()).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, wanted), "{host}, {tag:?}, HTTP/2: {over_h2}");
        }
        assert_eq!(ask(&world, over_h2, "beta-hello.shop", "/", &[]).await.reason(), "UnknownHost");
        // What only another activator may say is not believed.
        let spoofed = [("pilotlight-revision", "hello-2"), ("pilotlight-relay", "1 uid 00")];
        assert_eq!(ask(&world, over_h2, "hello.shop", "/", &spoofed).await.body, "hello-1");
    }
    direct(&world, &[("beta", "hello-2")], &json!([]));
    assert_eq!(ask(&world, false, "canary-hello.shop", "/", &[]).await.reason(), "UnknownHost");
    assert_eq!(ask(&world, false, "beta-hello.shop", "/", &[]).await.body, "hello-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_match_leads_to_its_revision_in_both_versions_of_http() {
    let world = World::new();
    let rules = json!([
        {"revision": "hello-2", "matches": [
            {"path": {"value": "/v2/"}},
            {"path": {"type": "Exact", "value": "/exact"}},
            {"headers": [{"name": "X-Role", "value": "staff"}, {"name": "x-team"}]},
        ]},
        {"revision": "hello-3", "matches": [
            {"cookies": [{"name": "beta", "value": "yes"}]},
            {"queryParams": [{"name": "beta", "value": "a%20b"}], "path": {"value": "/search"}},
            {"path": {"value": "/v2/3"}},
            {"headers": [{"name": "host", "value": "hello.shop.svc"}]},
        ]},
    ]);
    direct(&world, &[], &rules);
    let pods = [revision("hello-1").await, revision("hello-2").await, revision("hello-3").await];
    pods.iter().for_each(|pod| world.pod(pod));
    let none: &[(&str, &str)] = &[];
    for over_h2 in [false, true] {
        for (path, fields, wanted) in [
            ("/", none, "hello-1"),
            ("/v2", none, "hello-2"),
            ("/v2/a?b", none, "hello-2"),
            ("/v2/3", none, "hello-2"),
            ("/v20", none, "hello-1"),
            ("/exact?a", none, "hello-2"),
            ("/exact/a", none, "hello-1"),
            ("/", &[("x-role", "guest"), ("x-role", "staff"), ("x-team", "")], "hello-2"),
            ("/", &[("x-role", "staff")], "hello-1"),
            ("/", &[("cookie", "a=b; beta=yes")], "hello-3"),
            ("/", &[("cookie", "a=b"), ("cookie", "beta=yes")], "hello-3"),
            ("/", &[("cookie", "beta=yes2")], "hello-1"),
            ("/search?q=1&beta=a%20b", none, "hello-3"),
            ("/search?beta=a+b", none, "hello-1"),
            ("/search?beta=c&beta=a%20b", none, "hello-1"),
            ("/?beta=a%20b", none, "hello-1"),
        ] {
            let answer = ask(&world, over_h2, "hello.shop", path, fields).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, wanted), "{path} {fields:?}, HTTP/2: {over_h2}");
        }
        assert_eq!(ask(&world, over_h2, "hello.shop.svc", "/", &[]).await.body, "hello-3", "HTTP/2: {over_h2}");
    }
}

#[test]
fn whoever_comes_and_goes_in_whatever_order_each_name_leads_where_it_must() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let world = World::new();
    let registry = &world.activator.registry;
    let named = |name: &str, tag: Option<&str>| {
        function(|function| {
            function.metadata.name = Some(name.to_owned());
            let route = function.status.as_mut().unwrap().route.as_mut().unwrap();
            route.revision = Some(format!("{name}-1"));
            let tag = tag.map(|tag| (tag, route.revision.clone().unwrap()));
            let tag: Vec<_> = tag.iter().map(|(tag, revision)| (*tag, revision.as_str())).collect();
            route.tags = serde_json::from_value(tags(&tag)).unwrap();
        })
    };
    // All three make the name a-b-c; the one that has it as its own comes first, then the first by name.
    let all = [named("a-b-c", None), named("b-c", Some("a")), named("c", Some("a-b"))];
    let wanted = [("a-b-c", None), ("b-c", Some("a")), ("c", Some("a-b"))];
    let leads = || {
        let route = registry.lookup("a-b-c.shop.svc", Side::Inside);
        route.map(|route| (route.door.key.name.to_string(), route.tag.map(|tag| tag.to_string())))
    };
    let mut there = [false; 3];
    let check = |there: &[bool; 3]| {
        let first = there.iter().position(|there| *there).map(|at| wanted[at]);
        assert_eq!(leads(), first.map(|(name, tag)| (name.to_owned(), tag.map(str::to_owned))), "{there:?}");
    };
    // A walk over all sets of them, by every way from one to the next, by a change of one and by lists.
    for from in 0..8_usize {
        for to in 0..8_usize {
            for set in [from, to] {
                for at in 0..3 {
                    there[at] = set >> at & 1 == 1;
                    if there[at] {
                        registry.apply_function(&all[at])
                    } else {
                        registry.delete_function(&all[at])
                    }
                    check(&there);
                }
            }
            let list = |set: usize| {
                let listed = all.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
                listed.map(|(_, function)| function.clone()).collect::<Vec<_>>()
            };
            registry.replace_functions(&list(from));
            check(&std::array::from_fn(|at| from >> at & 1 == 1));
            there = std::array::from_fn(|at| to >> at & 1 == 1);
            registry.replace_functions(&list(to));
            check(&there);
        }
    }
    registry.replace_functions(&all);
    registry.apply_function(&named("b-c", None));
    registry.delete_function(&all[0]);
    assert_eq!(leads(), Some(("c".into(), Some("a-b".into()))), "a tag that is taken away leads nowhere");
    drop(world);
    runtime.shutdown_background();
}

/// Two activators; the second owns the Function, whose tags only a part of the requests is for.
async fn pair(fleet: &mut Fleet, tell: &dyn Fn(&Fleet, usize)) {
    for name in ["hello-1", "hello-2", "hello-3"] {
        fleet.add_pod(revision(name).await);
    }
    (0..2).for_each(|n| tell(fleet, n));
    fleet.until_open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_chosen_is_told_to_the_owner_who_chooses_itself_where_it_knows_better() {
    let mut fleet = Fleet::new(2);
    let shares = |fleet: &Fleet, n: usize, tagged: &[(&str, &str)]| {
        fleet.tell_with(n, Some(&owned_by(1, 1, &[0])), |function| {
            let route = function.status.as_mut().unwrap().route.as_mut().unwrap();
            route.revision = Some("hello-1".to_owned());
            route.split = split(&[("hello-1", 100)]);
            route.tags = serde_json::from_value(tags(tagged)).unwrap();
            let rules = json!([{"revision": "hello-3", "matches": [{"path": {"value": "/3"}}]}]);
            route.matches = serde_json::from_value(rules).unwrap();
        });
    };
    pair(&mut fleet, &|fleet, n| shares(fleet, n, &[("canary", "hello-2")])).await;
    let ask = |n: usize, own_port: bool, host: Option<&'static str>, path: &str, tag: Option<&'static str>| {
        let mut request = fleet.request(n, own_port, "GET", path, empty());
        if let Some(host) = host {
            request.headers_mut().insert("host", HeaderValue::from_static(host));
        }
        let tag = tag.map(|tag| (HeaderName::from_static("pilotlight-tag"), HeaderValue::from_static(tag)));
        request.headers_mut().extend(tag);
        send(request)
    };
    for n in 0..2 {
        assert_eq!(ask(n, false, Some("canary-hello.shop"), "/", None).await.body, "hello-2", "by its host at {n}");
        assert_eq!(ask(n, true, None, "/", Some("canary")).await.body, "hello-2", "by a header at {n}");
        assert_eq!(ask(n, true, None, "/3", None).await.body, "hello-3", "by a rule at {n}");
        assert_eq!(ask(n, false, None, "/", None).await.body, "hello-1", "by its share at {n}");
    }
    // The owner has heard that the tag is gone, the other has not: nobody is refused.
    shares(&fleet, 1, &[]);
    let answer = ask(0, false, Some("canary-hello.shop"), "/", None).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello-1"));
    // A client cannot say what only an activator may.
    let mut request = fleet.request(1, true, "GET", "/", empty());
    request.headers_mut().insert("pilotlight-revision", HeaderValue::from_static("hello-3"));
    assert_eq!(send(request).await.body, "hello-1");
}
