//! The list of endpoints with room against a naive look at every endpoint, and ejection step by step.

use std::time::Duration;

use pilotlight_crds::control::{DrainPurpose, DrainRequest};
use proptest::prelude::*;

use super::*;
use crate::fixtures;
use crate::function::outlier::CONSECUTIVE;
use crate::limits::Limits;

fn config(limit: u32, active: &str) -> FunctionConfig {
    FunctionConfig { revision: Some(active.into()), limit, target: 0, ..fixtures::config() }
}

/// The first ones are of an older revision.
fn pod(number: u8) -> Arc<PodView> {
    let revision = if number < 2 { "hello-1" } else { "hello-2" }.into();
    Arc::new(PodView { revision, ..fixtures::pod(number) })
}

struct Bench {
    endpoints: Endpoints,
    handshakes: Handshakes,
    config: FunctionConfig,
    now: Instant,
    slots: Vec<SlotRef>,
    draws: u64,
}

impl Bench {
    fn new(limit: u32) -> Self {
        Self {
            endpoints: Endpoints::default(),
            handshakes: Handshakes::default(),
            config: config(limit, "hello-2"),
            now: Instant::now(),
            slots: Vec::new(),
            draws: 0,
        }
    }

    fn pods(&mut self, numbers: impl IntoIterator<Item = u8>) {
        let pods: Vec<_> = numbers.into_iter().map(pod).collect();
        self.endpoints.set_pods(&pods, |pod| Arc::new(Upstream::new(pod, &Limits::default())));
        self.refresh();
    }

    fn refresh(&mut self) {
        self.endpoints.refresh(self.now, &self.handshakes, &self.config);
    }

    fn all_pass(&mut self) {
        let starting: Vec<_> = self.places(|e| e.phase == Phase::Starting);
        for (at, id) in starting {
            assert!(self.endpoints.passed(self.now, at, id));
        }
        self.refresh();
    }

    fn places(&self, wanted: impl Fn(&Endpoint) -> bool) -> Vec<(usize, u64)> {
        let entries = self.endpoints.entries.iter().enumerate();
        entries.filter_map(|(at, e)| e.as_ref().filter(|e| wanted(e)).map(|e| (at, e.id))).collect()
    }

    fn reserve(&mut self) -> Option<SlotRef> {
        self.draws = self.draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.endpoints.reserve(self.draws)
    }

    /// A slot at the pod with this number.
    fn reserve_at(&mut self, number: u8) -> SlotRef {
        for _ in 0..1000 {
            let slot = self.reserve().unwrap();
            if slot.upstream.address == pod(number).address.unwrap() {
                return slot;
            }
            self.endpoints.release(&slot);
        }
        panic!("pod {number} is never chosen");
    }

    /// The pod fails as often as it may, and is ejected, if that is allowed.
    fn fail(&mut self, number: u8) -> bool {
        let slot = self.reserve_at(number);
        let failures = (1..CONSECUTIVE).fold(slot.upstream.note_failure(), |_, _| slot.upstream.note_failure());
        assert!(failures >= CONSECUTIVE);
        let ejected = self.endpoints.eject(self.now, &slot);
        self.refresh();
        self.endpoints.release(&slot);
        ejected
    }

    fn chosen(&mut self) -> HashSet<u8> {
        let slots: Vec<_> = (0..100).filter_map(|_| self.reserve()).collect();
        let number = |slot: &SlotRef| {
            u8::try_from(slot.upstream.address.to_string().split(['.', ':']).nth(3)?.parse::<u16>().ok()?).ok()
        };
        slots.iter().for_each(|slot| self.endpoints.release(slot));
        slots.iter().filter_map(number).collect()
    }

    /// Looks at every endpoint.
    fn assert_room(&self) {
        let active = |e: &Endpoint| Some(&e.revision) == self.config.revision.as_ref();
        let usable = |e: &Endpoint| e.phase == Phase::Ready && !self.handshakes.blocks(&e.revision, &e.uid);
        let any_active = self.endpoints.iter().any(|e| usable(e) && active(e));
        let mut with_room = self.places(|e| {
            let room = match (self.config.limit, &e.ramp) {
                (0, None) => true,
                (0, Some(ramp)) => ramp.has_room(),
                (limit, _) => e.in_flight < limit,
            };
            usable(e) && (active(e) || !any_active) && room
        });
        let mut open: Vec<_> = self.endpoints.open.clone();
        open.sort_unstable();
        with_room.sort_unstable();
        assert_eq!(open, with_room.iter().map(|(at, _)| *at).collect::<Vec<_>>());
        for (at, id) in self.places(|_| true) {
            let held = self.slots.iter().filter(|slot| (slot.index, slot.id) == (at, id)).count();
            let endpoint = self.endpoints.entries[at].as_ref().unwrap();
            assert_eq!(endpoint.in_flight as usize, held);
            let ejected = |e: &&Endpoint| matches!(e.phase, Phase::Ejected(_)) && e.revision == endpoint.revision;
            if ejected(&endpoint) {
                let others = |e: &&Endpoint| e.phase == Phase::Ready && e.revision == endpoint.revision;
                assert!(self.endpoints.iter().any(|e| others(&e)), "all that is left is ejected");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Pods(Vec<bool>),
    Pass,
    Reserve,
    Answer(usize),
    Release(usize),
    Unreachable(usize),
    Eject(usize),
    Drain(u8),
    EndDrain,
    Later(u64),
    Limit(u32),
    Switch(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => prop::collection::vec(any::<bool>(), 6).prop_map(Op::Pods),
        3 => Just(Op::Pass),
        12 => Just(Op::Reserve),
        4 => (0usize..20).prop_map(Op::Answer),
        6 => (0usize..20).prop_map(Op::Release),
        1 => (0usize..20).prop_map(Op::Unreachable),
        3 => (0usize..20).prop_map(Op::Eject),
        1 => (0u8..6).prop_map(Op::Drain),
        1 => Just(Op::EndDrain),
        2 => (1u64..4000).prop_map(Op::Later),
        1 => (0u32..3).prop_map(Op::Limit),
        1 => any::<bool>().prop_map(Op::Switch),
    ]
}

fn step(bench: &mut Bench, op: Op) {
    match op {
        Op::Pods(present) => bench.pods((0..6).filter(|n| present[usize::from(*n)])),
        Op::Pass => bench.all_pass(),
        Op::Reserve => {
            let any = !bench.endpoints.open.is_empty();
            let slot = bench.reserve();
            assert_eq!(slot.is_some(), any, "a request waits exactly where no endpoint has room");
            bench.slots.extend(slot);
        }
        Op::Answer(at) if at < bench.slots.len() => {
            let mut slot = bench.slots.remove(at);
            bench.endpoints.answered(&mut slot, true);
            bench.slots.push(slot);
        }
        Op::Release(at) if at < bench.slots.len() => {
            let slot = bench.slots.remove(at);
            bench.endpoints.release(&slot);
        }
        Op::Unreachable(at) if at < bench.slots.len() => {
            let slot = bench.slots.remove(at);
            bench.endpoints.unreachable(&slot);
            bench.endpoints.release(&slot);
            bench.refresh();
        }
        Op::Eject(at) if at < bench.slots.len() => {
            bench.endpoints.eject(bench.now, &bench.slots[at].clone());
            bench.refresh();
        }
        Op::Drain(number) => {
            let scope = DrainScope::Pods { uids: vec![format!("uid-{number}")] };
            let request = DrainRequest {
                namespace: "shop".into(),
                name: "hello".into(),
                handshake: "h".into(),
                scope,
                purpose: DrainPurpose::Remove,
                ttl_millis: 0,
                wait_millis: 0,
            };
            bench.handshakes.open(&request, bench.now, true);
            bench.refresh();
        }
        Op::EndDrain => {
            bench.handshakes.close("h");
            bench.refresh();
        }
        Op::Later(millis) => {
            bench.now += Duration::from_millis(millis);
            bench.endpoints.advance(bench.now, true);
            bench.endpoints.reprieve(bench.now);
            bench.refresh();
        }
        Op::Limit(limit) => {
            bench.config.limit = limit;
            bench.refresh();
        }
        Op::Switch(old) => {
            bench.config.revision = Some(if old { "hello-1" } else { "hello-2" }.into());
            bench.refresh();
        }
        Op::Answer(_) | Op::Release(_) | Op::Unreachable(_) | Op::Eject(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn who_has_room_is_what_a_look_at_everyone_says(limit in 0u32..3, ops in prop::collection::vec(op(), 1..150)) {
        let mut bench = Bench::new(limit);
        for op in ops {
            step(&mut bench, op);
            bench.assert_room();
        }
    }
}

#[test]
fn an_ejected_pod_gets_nothing_is_probed_and_goes_again_at_its_first_failure() {
    let mut bench = Bench::new(1000);
    bench.pods([2, 3]);
    bench.all_pass();
    assert!(bench.fail(2));
    assert_eq!(bench.chosen(), HashSet::from([3]));
    assert!(!bench.fail(3), "the other one stays, whatever it does");
    bench.now += Duration::from_secs(4);
    assert!(!bench.endpoints.reprieve(bench.now));
    bench.now += Duration::from_secs(1);
    assert!(bench.endpoints.reprieve(bench.now), "its time is over");
    bench.refresh();
    assert_eq!(bench.chosen(), HashSet::from([3]), "and it has to pass its probe first");
    bench.all_pass();
    let slot = bench.reserve_at(2);
    assert_eq!(slot.upstream.note_failure(), CONSECUTIVE, "one more is enough");
    assert!(bench.endpoints.eject(bench.now, &slot));
    bench.now += Duration::from_secs(9);
    assert!(!bench.endpoints.reprieve(bench.now), "for longer this time");
}

#[test]
fn ejected_pods_are_used_again_where_only_they_are_left() {
    let mut bench = Bench::new(1000);
    bench.pods([2, 3]);
    bench.all_pass();
    assert!(bench.fail(2));
    bench.pods([2]);
    assert_eq!((bench.endpoints.usable(), bench.chosen()), (1, HashSet::from([2])));
}

#[test]
fn a_new_pod_beside_warm_ones_gets_little_at_first_and_its_share_once_it_has_answered() {
    let mut bench = Bench::new(0);
    bench.pods([2, 3]);
    bench.all_pass();
    let old: HashSet<u64> = bench.places(|_| true).into_iter().map(|(_, id)| id).collect();
    bench.now += Duration::from_secs(60);
    bench.endpoints.advance(bench.now, false);
    bench.pods([2, 3, 4]);
    bench.all_pass();
    let share = |bench: &mut Bench, answer: bool| {
        let mut slots: Vec<_> = (0..85).map(|_| bench.reserve().unwrap()).collect();
        let new = slots.iter().filter(|slot| !old.contains(&slot.id)).count();
        for slot in &mut slots {
            if answer && slot.unanswered {
                bench.endpoints.answered(slot, false);
            }
            bench.endpoints.release(slot);
        }
        new
    };
    assert_eq!(share(&mut bench, false), 5, "an eighth of what the others get");
    let shares: Vec<usize> = (0..12).map(|_| share(&mut bench, true)).collect();
    assert!(shares.windows(2).all(|pair| pair[0] <= pair[1] + 1), "{shares:?}");
    assert!((27..=29).contains(&shares[11]), "a third, as the others: {shares:?}");
}

#[test]
fn a_choice_looks_at_few_endpoints_however_many_there_are() {
    let mut bench = Bench::new(1);
    bench.pods(0..250);
    bench.all_pass();
    bench.slots = (0..248).map(|_| bench.reserve().unwrap()).collect();
    assert!(bench.reserve().is_none(), "the two of the older revision are not wanted");
    assert!(bench.endpoints.open.is_empty(), "so that the next answer takes no look at all");
    let freed = bench.slots.remove(100);
    bench.endpoints.release(&freed);
    assert_eq!(bench.reserve().map(|slot| slot.id), Some(freed.id));
}
