//! Rules as a table, claims by cases and against a plain model.

use super::*;
use jiff::Timestamp;
use proptest::prelude::*;

fn rules(texts: &[&str]) -> Rules {
    let rules = texts.iter().map(|text| text.parse().unwrap()).collect();
    Rules::new(rules, Some("fn.example.com".to_owned()))
}

fn claimant(age: i64, namespace: &str, name: &str) -> Claimant {
    Claimant {
        created: Timestamp::from_second(age).ok(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{age}-{namespace}-{name}"),
    }
}

fn hosts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_namespace_has_what_a_rule_gives_it_and_nothing_that_is_a_functions_own() {
    let rules = rules(&["*.example.com=shop,web", "www.example.org=shop", "*.dev.example.net=*", "*.a.svc.b=*"]);
    let table = [
        ("shop", "www.example.com", Ok(())),
        ("web", "a.b.example.com", Ok(())),
        ("other", "www.example.com", Err(Refused::NotAllowed)),
        ("shop", "example.com", Err(Refused::NotAllowed)),
        ("shop", "wwwexample.com", Err(Refused::NotAllowed)),
        ("shop", ".example.com", Err(Refused::NotAllowed)),
        ("shop", "www.example.org", Ok(())),
        ("shop", "a.www.example.org", Err(Refused::NotAllowed)),
        ("other", "x.dev.example.net", Ok(())),
        ("shop", "hello.web.fn.example.com", Err(Refused::Reserved)),
        ("shop", "hello.fn.example.com", Ok(())),
        ("shop", "a.hello.web.fn.example.com", Ok(())),
        ("shop", "x.a.svc.b", Err(Refused::Reserved)),
        ("shop", "hello.web.svc", Err(Refused::Reserved)),
    ];
    for (namespace, host, expected) in table {
        assert_eq!(rules.check(namespace, host), expected, "{namespace}: {host}");
    }
    assert_eq!(Rules::default().check("shop", "www.example.com"), Err(Refused::NotAllowed), "nobody, as installed");
}

#[test]
fn a_rule_that_means_nothing_is_told_with_its_form() {
    for odd in ["", "example.com", "=shop", "exa_mple.com=shop", "*.=shop", "a.com=", "a.com=x.y", "a.com=*,x", "*=x"] {
        let error = odd.parse::<HostnameRule>().unwrap_err();
        assert!(error.contains("write DOMAIN=NAMESPACE"), "{odd}: {error}");
    }
}

#[test]
fn who_has_a_name_keeps_it_until_it_asks_no_more_and_then_the_oldest_gets_it() {
    let mut index = HostIndex::new(rules(&["*.example.com=*"]));
    let (first, older, oldest) = (claimant(9, "a", "x"), claimant(5, "b", "x"), claimant(1, "c", "x"));
    let www = hosts(&["www.example.com", "no.example.org"]);
    let answer = index.claim(&first, &www);
    assert_eq!(answer.held, ["www.example.com"]);
    assert_eq!(answer.refused, [("no.example.org".to_owned(), Refused::NotAllowed)]);
    for late in [&older, &oldest] {
        let answer = index.claim(late, &www);
        assert_eq!((answer.held, answer.taken), (vec![], vec![("www.example.com".to_owned(), first.clone())]));
    }
    assert_eq!(index.claim(&first, &www).held, ["www.example.com"], "asked again");
    assert_eq!(index.claim(&first, &hosts(&["api.example.com"])).moved, std::slice::from_ref(&oldest));
    assert_eq!(index.claim(&older, &www).taken[0].1, oldest);
    assert_eq!(index.release("c", "x"), std::slice::from_ref(&older));
    assert_eq!(index.release("c", "x"), [], "once");
    assert_eq!(index.release("b", "x"), []);
    assert!(index.claim(&claimant(20, "d", "x"), &www).taken.is_empty());
}

#[test]
fn a_function_that_was_made_anew_waits_like_any_other() {
    let mut index = HostIndex::new(rules(&["*.example.com=*"]));
    let www = hosts(&["www.example.com"]);
    index.claim(&claimant(1, "a", "x"), &www);
    let waits = claimant(2, "b", "x");
    index.claim(&waits, &www);
    let anew = index.claim(&claimant(3, "a", "x"), &www);
    assert_eq!((anew.moved, anew.taken[0].1.clone()), (vec![waits.clone()], waits));
}

proptest! {
    #[test]
    fn no_name_has_two_holders_and_none_that_is_asked_for_is_nobodys(
        steps in proptest::collection::vec((0_i64..6, proptest::collection::btree_set(0_u8..4, 0..4), any::<bool>()), 1..60),
    ) {
        let mut index = HostIndex::new(rules(&["*.example.com=*"]));
        let mut asked: HashMap<i64, Vec<String>> = HashMap::new();
        for (who, wants, gone) in steps {
            let claimant = claimant(who, "shop", &format!("f{who}"));
            let wants: Vec<String> = wants.iter().map(|n| format!("h{n}.example.com")).collect();
            if gone {
                index.release("shop", &claimant.name);
                asked.remove(&who);
            } else {
                let answer = index.claim(&claimant, &wants);
                prop_assert_eq!(answer.held.len() + answer.taken.len(), wants.len());
                asked.insert(who, wants);
            }
            let mut holders: HashMap<String, usize> = HashMap::new();
            for (who, wants) in &asked {
                for host in index.claim(&self::claimant(*who, "shop", &format!("f{who}")), wants).held {
                    *holders.entry(host).or_default() += 1;
                }
            }
            let wanted: BTreeSet<&String> = asked.values().flatten().collect();
            prop_assert!(holders.values().all(|count| *count == 1), "{:?}", holders);
            prop_assert_eq!(holders.len(), wanted.len());
        }
    }
}
