//! The order in which it is chosen, and who moves when shares change.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::*;
use crate::index::Portion;

/// Revisions with their percentages, and what the status and the spec say besides.
fn plan(portions: &[(&str, u32)], route: &Value, sticky: &Value) -> Plan {
    let portion = |(revision, percent): &(&str, u32)| Portion { revision: (*revision).into(), percent: *percent };
    let portions: Vec<Portion> = portions.iter().map(portion).collect();
    let function: Function =
        serde_json::from_value(json!({"metadata": {}, "spec": {"image": "a", "sticky": sticky}})).unwrap();
    let mut route = route.clone();
    route["port"] = json!(12_000);
    let route: RouteStatus = serde_json::from_value(route).unwrap();
    Plan::new(&portions, Arc::new(Directions::of(&FunctionKey::new("shop", "hello"), &function, Some(&route))))
}

/// Five revisions: two share, the others get what a tag or a rule leads there.
fn everything(sticky: &Value) -> Plan {
    let route = json!({
        "tags": [{"tag": "a", "revision": "hello-3", "url": ""}, {"tag": "b", "revision": "hello-4", "url": ""}],
        "matches": [
            {"revision": "hello-5", "matches": [{"path": {"value": "/v5"}}]},
            {"revision": "hello-3", "matches": [{"path": {"value": "/v5/3"}}, {"path": {"value": "/v3"}}]},
            {"revision": "hello-9", "matches": [{"path": {"value": "/gone"}}]},
        ],
    });
    plan(&[("hello-1", 90), ("hello-2", 10), ("hello-3", 0), ("hello-4", 0), ("hello-5", 0)], &route, sticky)
}

/// A request that was drawn this number, where it is.
#[derive(Clone, Copy, Default)]
struct Sent {
    told: Option<&'static str>,
    host: Option<&'static str>,
    header: Option<&'static str>,
    path: &'static str,
    cookie: Option<&'static str>,
    random: Option<u64>,
}

/// The number of the revision that it goes to, and whether the client is given a cookie.
fn goes(plan: &Plan, sent: Sent) -> (usize, bool) {
    let mut headers = HeaderMap::new();
    for (name, value) in [("pilotlight-tag", sent.header), ("cookie", sent.cookie)] {
        headers.extend(value.map(|value| (HeaderName::from_static(name), HeaderValue::from_static(value))));
    }
    let (told, host) = (sent.told.map(HeaderValue::from_static), HeaderValue::from_static("hello.shop"));
    let uri = format!("/{}", sent.path).parse().unwrap();
    let asked = Asked { told: told.as_ref(), tag: sent.host, host: &host, uri: &uri, headers: &headers };
    let choice = plan.choose(&asked, || sent.random.expect("nothing is drawn")).unwrap();
    (choice.at + 1, choice.given.is_some())
}

#[test]
fn the_more_certain_word_comes_first() {
    let plan = everything(&json!({"cookie": {"name": "seat"}}));
    let cookie = Some("seat=ffffffffffffffff");
    let mut sent =
        Sent { told: Some("hello-1"), host: Some("a"), header: Some("b"), path: "v5/3", cookie, random: None };
    assert_eq!(goes(&plan, sent), (1, false), "another activator's word");
    sent.told = Some("hello-7");
    assert_eq!(goes(&plan, sent), (3, false), "one that is unknown is passed over for the host's tag");
    (sent.told, sent.host) = (None, Some("c"));
    assert_eq!(goes(&plan, sent), (4, false), "the header's tag");
    sent.header = Some("c");
    assert_eq!(goes(&plan, sent), (5, false), "the first rule of two that match");
    sent.path = "gone";
    assert_eq!(goes(&plan, sent), (2, false), "a rule for a revision that there is not leads nowhere: the cookie");
    sent.cookie = Some("seat=ff");
    assert_eq!(goes(&plan, Sent { random: Some(0), ..sent }), (1, true), "drawn, and told to the client");
    assert_eq!(goes(&plan, Sent { random: Some(u64::MAX), ..sent }), (2, true));
}

#[test]
fn who_went_by_tag_or_rule_gets_no_cookie_nor_does_anybody_where_only_one_revision_shares() {
    let sticky = json!({"cookie": {"name": "seat"}});
    let several = everything(&sticky);
    for sent in [Sent { host: Some("a"), ..Sent::default() }, Sent { path: "v3", ..Sent::default() }] {
        assert_eq!(goes(&several, sent), (3, false));
    }
    let tags = json!({"tags": [{"tag": "a", "revision": "hello-2", "url": ""}]});
    let one = plan(&[("hello-1", 100), ("hello-2", 0)], &tags, &sticky);
    assert_eq!(goes(&one, Sent::default()), (1, false), "nothing is drawn, either");
    assert_eq!(goes(&one, Sent { header: Some("a"), ..Sent::default() }), (2, false));
}

#[test]
fn a_header_makes_clients_stay_and_those_without_it_are_drawn() {
    let plan = everything(&json!({"header": "cookie"}));
    // The hash of "alice" is 0x3507…, of "a" 0x82a2…: both fall on the first ninety of a hundred.
    for cookie in [Some("alice"), Some("a")] {
        assert_eq!(goes(&plan, Sent { cookie, ..Sent::default() }), (1, false));
    }
    assert_eq!(goes(&plan, Sent { random: Some(u64::MAX), ..Sent::default() }), (2, false));
}

#[test]
fn without_anybody_there_is_no_choice() {
    let (uri, headers, host) = (Uri::default(), HeaderMap::new(), HeaderValue::from_static(""));
    let asked = Asked { told: None, tag: None, host: &host, uri: &uri, headers: &headers };
    assert!(Plan::default().choose(&asked, || 0).is_none());
}

/// The revision of each of these numbers.
fn seats(portions: &[(&str, u32)], numbers: &[u64]) -> Vec<String> {
    let plan = plan(portions, &json!({}), &Value::Null);
    let revision = |number: &u64| {
        let sent = Sent { random: Some(*number), ..Sent::default() };
        portions[goes(&plan, sent).0 - 1].0.to_owned()
    };
    numbers.iter().map(revision).collect()
}

#[test]
fn shares_that_change_move_only_those_who_must_and_only_one_way_whoever_is_largest() {
    let mut random = SmallRng::seed_from_u64(3);
    let numbers: Vec<u64> = std::iter::repeat_with(|| random.next_u64()).take(10_000).collect();
    // In the operator's order: the largest part first. By name alone, hello-10 would come before hello-9.
    let rollout = [(10, 90), (20, 80), (50, 50), (80, 20), (99, 1)];
    let order = |new: u32, old: u32| {
        let mut shares = [("hello-9", old), ("hello-10", new)];
        shares.sort_by_key(|(_, percent)| std::cmp::Reverse(*percent));
        shares
    };
    let mut before = seats(&order(10, 90), &numbers);
    for pair in rollout.windows(2) {
        let [(was, _), (new, old)] = pair else { unreachable!() };
        let after = seats(&order(*new, *old), &numbers);
        let mut moves = BTreeMap::<(&str, &str), u32>::new();
        for (from, to) in std::iter::zip(&before, &after).filter(|(from, to)| from != to) {
            *moves.entry((from, to)).or_default() += 1;
        }
        assert_eq!(moves.keys().collect::<Vec<_>>(), [&("hello-9", "hello-10")], "to {new} %");
        let moved = moves[&("hello-9", "hello-10")];
        assert!(moved.abs_diff((new - was) * 100) < 250, "five sigma at most: {moved} at {new} %");
        before = after;
    }
}

proptest! {
    /// Whatever the order in which revisions are listed, a number falls on the same one: so activators agree.
    #[test]
    fn a_number_means_the_same_to_all(first in 1u32..98, second in 1u32..98, number: u64, turn in 0usize..3) {
        prop_assume!(first + second < 100);
        let mut shares = vec![("hello-2", first), ("hello-11", second), ("hello-30", 100 - first - second)];
        let here = seats(&shares, &[number]);
        shares.rotate_left(turn);
        prop_assert_eq!(&here, &seats(&shares, &[number]));
        shares.reverse();
        prop_assert_eq!(&here, &seats(&shares, &[number]));
    }
}
