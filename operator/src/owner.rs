//! Which activator owns a Function with a hard concurrency limit: the only one that may send requests to its pods, so that it can
//! count them exactly and see every free one.
//!
//! Pure. What always holds: every change of who may send has a greater epoch; within an epoch the list of those whom the owner asks
//! only shrinks, and only by activators that run no more; an owner stays while it takes requests.

use std::net::IpAddr;

use pilotlight_crds::status::{ActivatorRef, RouteOwner};
use sha2::{Digest, Sha256};

/// An activator that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// Name of its pod.
    pub pod: String,
    /// Uid of its pod.
    pub uid: String,
    /// Where it is.
    pub ip: IpAddr,
    /// It is ready, is not going away, and has acknowledged the Function's route.
    pub takes: bool,
    /// The operator reached it when it last tried.
    pub reached: bool,
}

impl Runner {
    fn reference(&self) -> ActivatorRef {
        ActivatorRef { pod: self.pod.clone(), uid: self.uid.clone(), address: self.ip.to_string() }
    }
}

/// What the choice depends on.
pub struct OwnerInput<'a> {
    /// Namespace of the Function.
    pub namespace: &'a str,
    /// Name of the Function.
    pub name: &'a str,
    /// The hard concurrency limit; 0: none.
    pub limit: u32,
    /// The Function has no route yet, so nobody has sent it a request.
    pub new: bool,
    /// Who owns it now.
    pub current: Option<&'a RouteOwner>,
    /// The activators that run; `None` where they have not all been listed yet.
    pub running: Option<&'a [Runner]>,
    /// Seconds since 1970. Epochs begin with it, so that they grow also where a status was lost.
    pub now: i64,
}

/// Decides who may send.
pub fn decide(input: &OwnerInput<'_>) -> Option<RouteOwner> {
    let exclusive = input.current.is_some_and(|current| !current.everyone);
    match (input.limit, input.current) {
        (0, Some(_)) if exclusive => Some(RouteOwner { everyone: true, ..change(input) }),
        (0, current) => current.cloned(),
        _ => own(input),
    }
}

/// A new epoch, as yet without an owner.
fn change(input: &OwnerInput<'_>) -> RouteOwner {
    let next = input.current.map_or(0, |current| current.epoch.saturating_add(1));
    RouteOwner { epoch: next.max(input.now), ..RouteOwner::default() }
}

fn own(input: &OwnerInput<'_>) -> Option<RouteOwner> {
    let Some(running) = input.running else {
        return input.current.cloned().or_else(|| input.new.then(|| change(input)));
    };
    let owned = input.current.and_then(|current| current.activator.as_ref());
    let stays = owned.and_then(|owner| running.iter().find(|runner| runner.uid == owner.uid));
    let best = || {
        let takers = || running.iter().filter(|runner| runner.takes);
        let weighed = |runner: &&Runner| (runner.reached, weight(input, runner));
        takers().max_by_key(weighed)
    };
    let chosen = match stays {
        Some(runner) if runner.takes && runner.reached => Some(runner),
        // It may yet come back: only another that surely takes requests is better.
        Some(runner) => best().filter(|best| best.reached).or(Some(runner)),
        None => best(),
    };
    match (chosen, input.current) {
        (Some(chosen), Some(current)) if stays.is_some_and(|stays| stays.uid == chosen.uid) => {
            Some(RouteOwner { activator: Some(chosen.reference()), ..shrunk(current, running) })
        }
        (Some(chosen), _) => {
            let others = running.iter().filter(|runner| runner.uid != chosen.uid).map(Runner::reference).collect();
            Some(RouteOwner { activator: Some(chosen.reference()), others, ..change(input) })
        }
        (None, Some(current)) => Some(shrunk(current, running)),
        (None, None) => input.new.then(|| change(input)),
    }
}

/// `current` without those whose process has ended.
fn shrunk(current: &RouteOwner, running: &[Runner]) -> RouteOwner {
    let runs = |other: &&ActivatorRef| running.iter().any(|runner| runner.uid == other.uid);
    RouteOwner { others: current.others.iter().filter(runs).cloned().collect(), ..current.clone() }
}

/// Rendezvous hashing, so that Functions spread and an activator that comes or goes moves none between the others.
fn weight(input: &OwnerInput<'_>, runner: &Runner) -> [u8; 32] {
    Sha256::digest(format!("{}@{}/{}", runner.uid, input.namespace, input.name)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn runner(n: u8, takes: bool, reached: bool) -> Runner {
        Runner {
            pod: format!("activator-{n}"),
            uid: format!("uid-{n}"),
            ip: IpAddr::from([10, 0, 0, n]),
            takes,
            reached,
        }
    }

    fn next(name: &str, limit: u32, current: Option<&RouteOwner>, running: Option<&[Runner]>) -> Option<RouteOwner> {
        decide(&OwnerInput { namespace: "shop", name, limit, new: current.is_none(), current, running, now: 1_000 })
    }

    fn uid(owner: &RouteOwner) -> Option<&str> {
        owner.activator.as_ref().map(|activator| activator.uid.as_str())
    }

    #[test]
    fn functions_spread_over_activators() {
        let running = [runner(1, true, true), runner(2, true, true), runner(3, true, true)];
        let mut counts = BTreeMap::new();
        for n in 0..300 {
            let owner = next(&format!("hello-{n}"), 1, None, Some(&running)).unwrap();
            assert_eq!(owner.others.len(), 2);
            *counts.entry(owner.activator.unwrap().uid).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 3);
        assert!(counts.values().all(|count| *count > 50), "{counts:?}");
    }

    #[test]
    fn a_new_function_has_nobody_until_an_activator_takes_its_requests() {
        let starting = [runner(1, false, true)];
        let nobody = next("hello", 1, None, Some(&starting)).unwrap();
        assert_eq!((nobody.epoch, uid(&nobody), nobody.everyone), (1_000, None, false));
        let named = next("hello", 1, Some(&nobody), Some(&[runner(1, true, true)])).unwrap();
        assert_eq!((named.epoch, uid(&named)), (1_001, Some("uid-1")));
    }

    #[test]
    fn a_function_that_gets_a_limit_goes_on_until_there_is_an_owner() {
        let input = |running| OwnerInput {
            namespace: "shop",
            name: "hello",
            limit: 1,
            new: false,
            current: None,
            running,
            now: 1_000,
        };
        let (starting, ready) = ([runner(1, false, true)], [runner(1, true, true)]);
        assert_eq!(decide(&input(None)), None);
        assert_eq!(decide(&input(Some(&starting))), None);
        assert!(decide(&input(Some(&ready))).is_some());
    }

    #[test]
    fn without_a_limit_everyone_sends_and_the_epoch_is_kept() {
        let running = [runner(1, true, true), runner(2, true, true)];
        assert_eq!(next("hello", 0, None, Some(&running)), None);
        let owned = next("hello", 1, None, Some(&running)).unwrap();
        let open = next("hello", 0, Some(&owned), Some(&running)).unwrap();
        assert_eq!((open.epoch, uid(&open), open.everyone), (1_001, None, true));
        assert_eq!(next("hello", 0, Some(&open), Some(&running)), Some(open.clone()));
        let again = next("hello", 1, Some(&open), Some(&running)).unwrap();
        assert_eq!((again.epoch, again.everyone, again.others.len()), (1_002, false, 1));
    }

    #[test]
    fn who_is_out_of_reach_loses_it_to_one_that_is_not() {
        let owned = next("hello", 1, None, Some(&[runner(1, true, true)])).unwrap();
        let alone = next("hello", 1, Some(&owned), Some(&[runner(1, false, false)])).unwrap();
        assert_eq!(alone, owned, "there is no better one");
        let both = [runner(1, true, false), runner(2, true, true)];
        let moved = next("hello", 1, Some(&owned), Some(&both)).unwrap();
        assert_eq!((uid(&moved), moved.others[0].uid.as_str()), (Some("uid-2"), "uid-1"));
        let gone = next("hello", 1, Some(&moved), Some(&[runner(2, true, true)])).unwrap();
        assert_eq!((gone.epoch, gone.others.len()), (moved.epoch, 0), "who is over need not be asked");
    }

    fn runners() -> impl Strategy<Value = Option<Vec<Runner>>> {
        let one = (1u8..5, any::<bool>(), any::<bool>());
        prop::option::weighted(0.8, prop::collection::vec(one, 0..4)).prop_map(|all| {
            all.map(|all| {
                let by_number: BTreeMap<u8, Runner> =
                    all.into_iter().map(|(n, takes, reached)| (n, runner(n, takes, reached))).collect();
                by_number.into_values().collect()
            })
        })
    }

    proptest! {
        #[test]
        fn epochs_grow_with_each_change_and_lists_shrink_within_one(
            steps in prop::collection::vec((0u32..2, runners(), 0i64..3), 1..30),
        ) {
            let (mut current, mut now): (Option<RouteOwner>, i64) = (None, 50);
            for (limit, running, passed) in steps {
                now += passed - 1;
                let next = decide(&OwnerInput {
                    namespace: "shop", name: "hello", limit, new: current.is_none(),
                    current: current.as_ref(), running: running.as_deref(), now,
                });
                if let (Some(before), Some(after)) = (&current, &next) {
                    prop_assert!(after.epoch >= before.epoch);
                    let same = uid(before) == uid(after) && before.everyone == after.everyone;
                    prop_assert_eq!(same, before.epoch == after.epoch);
                    if same {
                        for other in &before.others {
                            let runs = running.iter().flatten().any(|runner| runner.uid == other.uid);
                            let kept = after.others.contains(other);
                            prop_assert_eq!(kept, runs || running.is_none() || limit == 0);
                        }
                        prop_assert!(after.others.iter().all(|other| before.others.contains(other)));
                    } else if uid(after).is_some() {
                        let asked = after.others.len() + 1;
                        prop_assert_eq!(Some(asked), running.as_ref().map(Vec::len), "all that run are asked");
                    }
                }
                prop_assert!(current.is_none() || next.is_some(), "an epoch is never forgotten");
                current = next;
            }
        }
    }
}
