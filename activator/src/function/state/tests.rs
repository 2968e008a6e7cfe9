//! The state machine against a naive model, and the moments that matter one by one.

use std::collections::HashMap;

use pilotlight_crds::control::{DrainOutcome, DrainPurpose, DrainRequest, DrainResponse, DrainScope};
use proptest::prelude::*;

use super::*;
use crate::fixtures;
use crate::index::ProbeCheck;
use crate::limits::Limits;

fn config(limit: u32) -> Arc<FunctionConfig> {
    Arc::new(FunctionConfig { limit, ..fixtures::config() })
}

fn pod(number: usize) -> Arc<PodView> {
    let checks = vec![ProbeCheck::Tcp { port: 8080 }];
    Arc::new(PodView { checks, ..fixtures::pod(u8::try_from(number).unwrap()) })
}

fn upstream(pod: &PodView) -> Arc<Upstream> {
    Arc::new(Upstream::new(pod, &Limits::default()))
}

struct Bench {
    state: State<Seq>,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(limit: u32) -> Self {
        let start = Instant::now();
        Self { state: State::new(config(limit), start, None), start, now: start }
    }

    fn pods(&mut self, pods: &[Arc<PodView>]) -> Vec<ProbeTarget> {
        let config = self.state.config().clone();
        self.state.update(self.now, config, pods.to_vec(), None, upstream)
    }

    fn ready(&mut self, pods: &[Arc<PodView>]) {
        for target in self.pods(pods) {
            assert!(self.state.probe_passed(self.now, target.index, target.id));
        }
    }

    /// A request: its slot, or `None` where it waits.
    fn arrive(&mut self) -> (Seq, Option<SlotRef>) {
        let seq = self.state.arrive(self.now);
        let slot = self.state.take_slot(self.now, seq);
        if slot.is_none() {
            self.state.wait(self.now, seq, seq, 10, Share::default()).unwrap();
        }
        (seq, slot)
    }

    fn drain(&mut self, id: &str, scope: DrainScope, ttl_millis: u64) -> DrainResponse {
        let request = DrainRequest {
            namespace: "shop".into(),
            name: "hello".into(),
            handshake: id.into(),
            scope,
            purpose: DrainPurpose::Remove,
            ttl_millis,
            wait_millis: 0,
        };
        self.state.drain(self.now, &request, true)
    }

    fn later(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }
}

fn all() -> DrainScope {
    DrainScope::All { revision: "hello-1".into() }
}

fn some(number: usize) -> DrainScope {
    DrainScope::Pods { uids: vec![format!("uid-{number}")] }
}

#[test]
fn a_request_that_waits_wakes_the_active_revision_until_a_pod_answers() {
    let mut bench = Bench::new(0);
    assert_eq!(bench.state.need(bench.now), Need::Nothing);
    let (seq, slot) = bench.arrive();
    assert!(slot.is_none());
    let woken =
        matches!(bench.state.need(bench.now), Need::Wake { deployment, replicas: 1, .. } if &*deployment == "hello-1");
    assert!(woken);
    bench.ready(&[pod(1)]);
    assert_eq!(bench.state.need(bench.now), Need::Nothing);
    let (granted, _) = bench.state.grant(bench.now).unwrap();
    assert_eq!(granted, seq);
}

#[test]
fn one_that_arrives_never_overtakes_one_that_waits() {
    let mut bench = Bench::new(1);
    bench.ready(&[pod(1)]);
    let (_, first) = bench.arrive();
    let (second, none) = bench.arrive();
    assert!(none.is_none());
    let first = first.unwrap();
    bench.state.release(bench.now, &first);
    let (third, none) = bench.arrive();
    assert!(none.is_none(), "a slot is free, and {second} is before {third}");
    assert_eq!(bench.state.grant(bench.now).unwrap().0, second);
}

#[test]
fn a_pod_that_ends_finishes_what_it_has_and_gets_nothing_more() {
    let mut bench = Bench::new(0);
    bench.ready(&[pod(1)]);
    let slot = bench.arrive().1.unwrap();
    let mut ending = (*pod(1)).clone();
    ending.terminating = true;
    assert!(bench.pods(&[Arc::new(ending)]).is_empty());
    assert!(bench.arrive().1.is_none());
    assert_eq!(bench.state.in_flight(), 1);
    bench.ready(&[pod(2)]);
    let (_, other) = bench.state.grant(bench.now).unwrap();
    assert_ne!(other.id, slot.id);
    bench.state.release(bench.now, &slot);
    assert_eq!(bench.state.in_flight(), 1);
}

#[test]
fn a_pod_that_turns_unready_is_probed_again() {
    let mut bench = Bench::new(0);
    let mut view = (*pod(1)).clone();
    view.ready = true;
    bench.ready(&[Arc::new(view.clone())]);
    assert_eq!(bench.state.usable(), 1);
    view.ready = false;
    let targets = bench.pods(&[Arc::new(view)]);
    assert_eq!((targets.len(), bench.state.usable()), (1, 0));
}

#[test]
fn a_drain_of_one_pod_leaves_the_others_in_use() {
    let mut bench = Bench::new(0);
    bench.ready(&[pod(1), pod(2)]);
    assert_eq!(bench.drain("h", some(1), 1000), DrainResponse::Drained);
    for _ in 0..20 {
        assert_eq!(bench.arrive().1.unwrap().upstream.address, pod(2).address.unwrap());
    }
    assert_eq!(bench.drain("g", some(2), 1000), DrainResponse::Busy { in_flight: 20, queued: 0 });
    bench.state.release_handshake(bench.now, "h", DrainOutcome::Aborted);
    assert_eq!(bench.arrive().1.unwrap().upstream.address, pod(1).address.unwrap());
}

#[test]
fn an_expired_hand_shake_blocks_until_the_fence() {
    let mut bench = Bench::new(0);
    bench.ready(&[pod(1)]);
    assert_eq!(bench.drain("h", all(), 100), DrainResponse::Drained);
    let (seq, slot) = bench.arrive();
    assert!(slot.is_none());
    assert!(matches!(bench.state.need(bench.now), Need::Wake { look_at: Some(_), .. }));
    bench.later(100);
    assert!(bench.state.grant(bench.now).is_none(), "running out alone frees nothing");
    assert!(matches!(bench.state.need(bench.now), Need::Fence { .. }));
    let asked = bench.now;
    assert_eq!(bench.drain("late", all(), 1000), DrainResponse::Busy { in_flight: 0, queued: 1 });
    bench.state.fenced(bench.now, asked, false);
    assert_eq!(bench.state.grant(bench.now).unwrap().0, seq);
}

#[test]
fn a_fence_says_nothing_of_hand_shakes_that_ran_out_after_it_began() {
    let mut bench = Bench::new(0);
    bench.ready(&[pod(1)]);
    assert_eq!(bench.drain("early", all(), 50), DrainResponse::Drained);
    assert_eq!(bench.drain("late", all(), 100), DrainResponse::Drained);
    bench.arrive();
    bench.later(60);
    let asked = bench.now;
    bench.later(60);
    bench.state.fenced(bench.now, asked, false);
    assert!(bench.state.grant(bench.now).is_none());
    assert!(matches!(bench.state.need(bench.now), Need::Fence { .. }));
}

#[test]
fn who_waits_beside_a_new_pod_that_is_silent_waits_no_longer_than_its_slow_start() {
    let mut bench = Bench::new(0);
    for _ in 0..200_000 {
        let seq = bench.state.arrive(bench.now);
        bench.state.queue.push(seq, seq, 1, usize::MAX, u64::MAX).unwrap();
    }
    bench.ready(&[pod(1)]);
    for doublings in 0..10 {
        while bench.state.grant(bench.now).is_some() {}
        assert_eq!(bench.state.in_flight(), 100 << doublings, "the target concurrency, doubled {doublings} times");
        bench.later(2000);
        bench.state.advance(bench.now);
    }
    while bench.state.grant(bench.now).is_some() {}
    assert_eq!(bench.state.queued(), 0, "after twenty seconds all are at the pod");
}

#[derive(Clone, Debug)]
enum Op {
    Arrive,
    Release(usize),
    Leave(usize),
    GiveUp(usize),
    ProbesPass,
    SetPods(Vec<bool>),
    DrainAll(u64),
    DrainOne(usize, u64),
    EndHandshake(usize, bool),
    Fence(bool),
    Later(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Arrive),
        4 => (0usize..8).prop_map(Op::Release),
        1 => (0usize..8).prop_map(Op::Leave),
        1 => (0usize..8).prop_map(Op::GiveUp),
        3 => Just(Op::ProbesPass),
        2 => prop::collection::vec(any::<bool>(), 4).prop_map(Op::SetPods),
        1 => (1u64..200).prop_map(Op::DrainAll),
        1 => (0usize..4, 1u64..200).prop_map(|(pod, ttl)| Op::DrainOne(pod, ttl)),
        2 => (0usize..4, any::<bool>()).prop_map(|(at, committed)| Op::EndHandshake(at, committed)),
        1 => any::<bool>().prop_map(Op::Fence),
        2 => (1u64..300).prop_map(Op::Later),
    ]
}

/// What a naive reader of ARCHITECTURE.md would keep: lists, looked through from end to end.
#[derive(Default)]
struct Model {
    waiting: Vec<Seq>,
    /// Slot and the pod it is at.
    at_pods: Vec<(SlotRef, usize)>,
    /// Id, scope, end.
    open: Vec<(String, DrainScope, Instant)>,
    probes: HashMap<u64, ProbeTarget>,
    next: usize,
}

impl Model {
    fn at(&self, number: usize) -> usize {
        self.at_pods.iter().filter(|(_, at)| *at == number).count()
    }

    fn drained(&self, number: usize) -> bool {
        self.open.iter().any(|(_, scope, _)| *scope == all() || *scope == some(number))
    }

    fn took(&mut self, slot: SlotRef, limit: u32) {
        let std::net::IpAddr::V4(ip) = slot.upstream.address.ip() else { unreachable!() };
        let number = usize::from(ip.octets()[3]);
        assert!(!self.drained(number), "pod {number} is drained");
        assert!(limit == 0 || self.at(number) < limit as usize, "pod {number} is full");
        self.at_pods.push((slot, number));
    }
}

fn step(bench: &mut Bench, model: &mut Model, op: Op, limit: u32) {
    match op {
        Op::Arrive => {
            let (seq, slot) = bench.arrive();
            match slot {
                Some(slot) => {
                    assert!(model.waiting.is_empty(), "it overtook {:?}", model.waiting);
                    model.took(slot, limit);
                }
                None => model.waiting.push(seq),
            }
        }
        Op::Release(at) if at < model.at_pods.len() => {
            let (slot, _) = model.at_pods.remove(at);
            bench.state.release(bench.now, &slot);
        }
        Op::GiveUp(at) if at < model.at_pods.len() => {
            let (slot, _) = model.at_pods.remove(at);
            let targets = bench.state.give_up(bench.now, &slot);
            model.probes.extend(targets.into_iter().map(|target| (target.id, target)));
        }
        Op::Leave(at) if at < model.waiting.len() => {
            let seq = model.waiting.remove(at);
            assert_eq!(bench.state.leave(bench.now, seq), Some(seq));
        }
        Op::ProbesPass => {
            for (id, target) in std::mem::take(&mut model.probes) {
                let passed = bench.state.probe_passed(bench.now, target.index, id);
                if !passed && bench.state.keep_probing(target.index, id) {
                    model.probes.insert(id, target);
                }
            }
        }
        Op::SetPods(present) => {
            let pods: Vec<_> = (0..4).filter(|n| present[*n]).map(pod).collect();
            let targets = bench.pods(&pods);
            model.probes.extend(targets.into_iter().map(|target| (target.id, target)));
        }
        Op::DrainAll(ttl) => drain_step(bench, model, all(), ttl),
        Op::DrainOne(number, ttl) => drain_step(bench, model, some(number), ttl),
        Op::EndHandshake(at, committed) if at < model.open.len() => {
            let (id, _, _) = model.open.remove(at);
            let outcome = if committed { DrainOutcome::Committed } else { DrainOutcome::Aborted };
            bench.state.release_handshake(bench.now, &id, outcome);
        }
        Op::Fence(gone) => {
            let now = bench.now;
            bench.state.fenced(now, now, gone);
            model.open.retain(|(_, _, end)| *end > now);
        }
        Op::Later(millis) => {
            bench.later(millis);
            let targets = bench.state.reprieve(bench.now);
            model.probes.extend(targets.into_iter().map(|target| (target.id, target)));
        }
        Op::Release(_) | Op::GiveUp(_) | Op::Leave(_) | Op::EndHandshake(..) => {}
    }
}

fn drain_step(bench: &mut Bench, model: &mut Model, scope: DrainScope, ttl: u64) {
    let numbers: Vec<usize> = (0..4).filter(|n| scope == all() || scope == some(*n)).collect();
    let in_flight: usize = numbers.iter().map(|n| model.at(*n)).sum();
    // Where no pod can serve those who wait, any may be the one that they wait for.
    let queued = if scope == all() || bench.state.usable() == 0 { model.waiting.len() } else { 0 };
    let id = format!("h{}", model.next);
    model.next += 1;
    let answer = bench.drain(&id, scope.clone(), ttl);
    assert_eq!(answer == DrainResponse::Drained, in_flight == 0 && queued == 0, "{in_flight} {queued}");
    if answer == DrainResponse::Drained {
        model.open.push((id, scope, bench.now + Duration::from_millis(ttl)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// After every step: counts agree with the model; whoever waits is served in order as soon as the machine offers a slot; no slot
    /// at a drained or full pod; and while something waits without a usable pod, there is something to do.
    #[test]
    fn whatever_happens_the_promises_hold(limit in 0u32..3, ops in prop::collection::vec(op(), 1..120)) {
        let mut bench = Bench::new(limit);
        let mut model = Model::default();
        for op in ops {
            step(&mut bench, &mut model, op, limit);
            while let Some((seq, slot)) = bench.state.grant(bench.now) {
                prop_assert_eq!(seq, model.waiting.remove(0));
                model.took(slot, limit);
            }
            prop_assert_eq!(bench.state.in_flight() as usize, model.at_pods.len());
            prop_assert_eq!(bench.state.queued() as usize, model.waiting.len());
            let need = bench.state.need(bench.now);
            if model.waiting.is_empty() {
                prop_assert_eq!(need, Need::Nothing);
            } else if model.open.iter().any(|(_, _, end)| *end <= bench.now) {
                prop_assert!(matches!(need, Need::Fence { .. }), "{:?}", need);
            } else if bench.state.usable() == 0 {
                prop_assert!(matches!(need, Need::Wake { .. }), "{:?}", need);
            }
        }
        for (slot, _) in std::mem::take(&mut model.at_pods) {
            bench.state.release(bench.now, &slot);
        }
        bench.later(1);
        prop_assert!(bench.now > bench.start);
        prop_assert_eq!(bench.state.in_flight(), 0);
    }
}
