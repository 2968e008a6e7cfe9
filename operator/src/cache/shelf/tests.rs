//! What a shelf holds, tells and forgets, on Deployments.

use super::*;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

fn deployment(name: &str, function: &str, replicas: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": format!("{replicas}00"),
            "labels": {"pilotlight.dev/function": function},
        },
        "spec": {"replicas": replicas, "selector": {}, "template": {"spec": {"containers": [{"name": "app"}]}}},
    }))
    .expect("a Deployment")
}

/// Those with this many replicas are packed.
fn at_zero(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(0)
}

fn names(found: &[Arc<Deployment>]) -> String {
    found.iter().filter_map(|found| found.metadata.name.as_deref()).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_packed_and_what_is_whole_is_read_as_it_was_put() {
    let (shelf, mut filler) = Shelf::new(at_zero);
    for replicas in [0, 3, 0] {
        let put = deployment("web-1", "web", replicas);
        filler.take(Event::Apply(put.clone()));
        let packed = matches!(shelf.read().by_name["shop/web-1"].form, Form::Packed(_));
        assert_eq!(packed, replicas == 0, "{replicas} replicas");
        assert_eq!(shelf.get("shop", "web-1").as_deref(), Some(&put));
        assert_eq!(filler.known(&put).as_deref(), Some(&put));
        assert_eq!(shelf.version("shop", "web-1"), put.metadata.resource_version);
        assert_eq!(names(&shelf.of("shop", "web")), "web-1");
    }
    assert_eq!((shelf.get("toys", "web-1"), shelf.has("toys", "web-1")), (None, false));
    assert_eq!(shelf.names(), [("shop".to_owned(), "web-1".to_owned())]);
    assert_eq!((shelf.uids(), shelf.has("shop", "web-1")), (HashSet::from(["uid-web-1".to_owned()]), true));
    assert_eq!(names(&shelf.all()), "web-1");
    assert_eq!(shelf.version("shop", "web-2"), None);
}

#[test]
fn the_index_follows_labels_and_deletions() {
    let (shelf, mut filler) = Shelf::new(at_zero);
    for name in ["web-2", "web-1"] {
        filler.take(Event::Apply(deployment(name, "web", 0)));
    }
    assert_eq!(names(&shelf.of("shop", "web")), "web-1 web-2");
    filler.take(Event::Apply(deployment("web-2", "other", 1)));
    assert_eq!((names(&shelf.of("shop", "web")), names(&shelf.of("shop", "other"))), ("web-1".into(), "web-2".into()));
    filler.take(Event::Delete(deployment("web-1", "web", 0)));
    assert_eq!(shelf.of("shop", "web"), []);
    assert!(!shelf.read().of_function.contains_key("shop/web"), "nothing is left of who has nothing");
}

#[test]
fn a_list_takes_the_place_of_all_when_it_is_whole_and_tells_who_lost_something() {
    let (shelf, mut filler) = Shelf::new(at_zero);
    filler.take(Event::Apply(deployment("web-1", "web", 0)));
    filler.take(Event::Apply(deployment("old-1", "old", 1)));
    filler.take(Event::Init);
    filler.take(Event::InitApply(deployment("web-1", "web", 2)));
    // A list that is begun anew forgets what it had.
    filler.take(Event::Init);
    filler.take(Event::InitApply(deployment("web-2", "web", 2)));
    assert_eq!(names(&shelf.of("shop", "web")), "web-1", "it is not whole yet");
    let lost = filler.take(Event::InitDone);
    assert_eq!(lost, HashSet::from([("shop".into(), "web".into()), ("shop".into(), "old".into())]));
    assert_eq!((names(&shelf.of("shop", "web")), names(&shelf.of("shop", "old"))), ("web-2".into(), String::new()));
}

#[test]
fn whoever_asks_what_was_touched_hears_of_every_change_once() {
    let (shelf, mut filler) = Shelf::new(at_zero);
    let touched = || {
        let mut names: Vec<_> = shelf.touched().into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
        names.join(" ")
    };
    filler.take(Event::Apply(deployment("web-1", "web", 0)));
    assert_eq!(touched(), "web", "from before anybody asked");
    assert_eq!(touched(), "");
    filler.take(Event::Apply(deployment("web-1", "other", 0)));
    assert_eq!(touched(), "other web", "it was one's, and is another's");
    filler.take(Event::Delete(deployment("web-1", "other", 0)));
    assert_eq!(touched(), "other");
    let mut plain = deployment("plain", "", 0);
    plain.metadata.labels = None;
    filler.take(Event::Apply(plain));
    assert_eq!(touched(), "plain", "who is labelled with nobody is about itself");
    filler.take(Event::Init);
    filler.take(Event::InitApply(deployment("new-1", "new", 0)));
    assert_eq!(touched(), "", "the list is not whole");
    filler.take(Event::InitDone);
    assert_eq!(touched(), "new plain", "what was there, and what is");
}

#[tokio::test]
async fn whoever_waits_for_the_first_list_goes_on_when_it_is_whole_or_nobody_fills_it() {
    let (shelf, mut filler) = Shelf::<Deployment>::new(at_zero);
    let waits = tokio::spawn({
        let shelf = shelf.clone();
        async move { shelf.listed().await }
    });
    filler.take(Event::Init);
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    filler.take(Event::InitDone);
    waits.await.expect("no panic").expect("it was listed");
    let (unfilled, filler) = Shelf::<Deployment>::new(at_zero);
    drop(filler);
    assert!(unfilled.listed().await.is_err());
}
