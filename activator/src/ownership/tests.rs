//! Ownership against a model of several activators, pods and an operator: whatever the order of status updates, claims, answers,
//! completions and crashes, an owner never adds a request to a pod that is at its limit.

use proptest::prelude::*;

use super::*;

const ACTIVATORS: usize = 3;
const PODS: usize = 2;

fn peer(n: usize) -> Peer {
    Peer { uid: format!("uid-{n}").into(), pod: format!("activator-{n}").into(), ip: None }
}

fn number(uid: &str) -> usize {
    uid.trim_start_matches("uid-").parse().unwrap()
}

fn pod(n: usize) -> String {
    format!("pod-{n}")
}

#[derive(Clone, Debug)]
enum Op {
    Name(usize),
    Everyone,
    Nobody,
    /// The operator sees which processes have ended.
    Shrink,
    Watch(usize),
    Take(usize, usize),
    Finish(usize, usize),
    Ask(usize, usize),
    Answer(usize, usize),
    Relay(usize),
    Crash(usize),
    Restart(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..ACTIVATORS;
    let pod = 0..PODS;
    prop_oneof![
        2 => who.clone().prop_map(Op::Name),
        1 => Just(Op::Everyone),
        1 => Just(Op::Nobody),
        1 => Just(Op::Shrink),
        6 => who.clone().prop_map(Op::Watch),
        8 => (who.clone(), pod.clone()).prop_map(|(a, p)| Op::Take(a, p)),
        5 => (who.clone(), pod).prop_map(|(a, p)| Op::Finish(a, p)),
        6 => (who.clone(), who.clone()).prop_map(|(a, b)| Op::Ask(a, b)),
        6 => (who.clone(), 0usize..8).prop_map(|(a, n)| Op::Answer(a, n)),
        2 => who.clone().prop_map(Op::Relay),
        1 => who.clone().prop_map(Op::Crash),
        1 => who.prop_map(Op::Restart),
    ]
}

/// An activator, as it is.
struct Activator {
    alive: bool,
    ownership: Ownership,
    seen: usize,
    at: [u32; PODS],
    /// Answers on their way to it: epoch, whose, what.
    inbox: Vec<(i64, usize, BTreeMap<String, u32>)>,
}

struct World {
    limit: u32,
    now: Instant,
    /// Every version of the record that the operator wrote.
    written: Vec<Record>,
    /// Who runs, as far as the operator knows.
    believed: [bool; ACTIVATORS],
    activators: Vec<Activator>,
}

impl World {
    fn new(limit: u32) -> Self {
        let activator = |n| Activator {
            alive: true,
            ownership: Ownership::new(Some(peer(n).uid)),
            seen: 0,
            at: [0; PODS],
            inbox: Vec::new(),
        };
        Self {
            limit,
            now: Instant::now(),
            written: Vec::new(),
            believed: [true; ACTIVATORS],
            activators: (0..ACTIVATORS).map(activator).collect(),
        }
    }

    fn write(&mut self, sender: Sender) {
        let epoch = self.written.last().map_or(1, |record| record.epoch + 1);
        let owner = match &sender {
            Sender::One(owner) => Some(owner.uid.clone()),
            Sender::Everyone | Sender::Nobody => None,
        };
        let others = (0..ACTIVATORS).filter(|n| self.believed[*n]).map(peer).filter(|p| Some(&p.uid) != owner.as_ref());
        self.written.push(Record { epoch, sender, others: Some(others.collect()) });
    }

    fn total(&self, pod: usize) -> u32 {
        self.activators.iter().map(|activator| activator.at[pod]).sum()
    }

    fn watch(&mut self, a: usize) {
        let activator = &mut self.activators[a];
        if activator.alive && activator.seen < self.written.len() {
            activator.ownership.watch(self.now, Some(&self.written[activator.seen]));
            activator.seen += 1;
        }
    }

    fn take(&mut self, a: usize, p: usize) -> Result<bool, TestCaseError> {
        let total = self.total(p);
        let activator = &self.activators[a];
        let room = self.limit.saturating_sub(activator.ownership.occupied(&pod(p)));
        if !activator.alive || !activator.ownership.may_send(self.limit) || activator.at[p] >= room {
            return Ok(false);
        }
        let epoch = activator.ownership.epoch();
        // Once the limit was taken away, others may send whatever an owner does that has not heard of it.
        let lifted = self.written.iter().any(|record| record.epoch > epoch && record.sender == Sender::Everyone);
        if activator.ownership.role() == Role::Owner && !lifted {
            prop_assert!(total < self.limit, "{a} sends to a pod that has {total}");
        }
        for (b, other) in self.activators.iter().enumerate().filter(|(b, other)| *b != a && other.alive) {
            let open = other.ownership.role() == Role::Owner && other.ownership.may_send(self.limit);
            prop_assert!(!open || other.ownership.epoch() < epoch, "{a} sends although {b} owns it");
        }
        self.activators[a].at[p] += 1;
        Ok(true)
    }

    fn ask(&mut self, a: usize, b: usize) {
        let epoch = self.activators[a].ownership.epoch();
        if !self.activators[a].alive || self.activators[a].ownership.asks(epoch, &peer(b).uid).is_none() {
            return;
        }
        let owner = self.activators[a].ownership.claimant(epoch).unwrap().clone();
        assert_eq!(number(&owner.uid), a);
        let other = &mut self.activators[b];
        // Nobody listens where no process is.
        if !other.alive || other.ownership.hear(self.now, epoch, &owner) {
            let held = (0..PODS).filter(|p| other.at[*p] > 0).map(|p| (pod(p), other.at[p])).collect();
            self.activators[a].inbox.push((epoch, b, held));
        }
    }

    fn answer(&mut self, a: usize, n: usize) {
        let activator = &mut self.activators[a];
        if activator.inbox.is_empty() {
            return;
        }
        let (epoch, b, held) = activator.inbox.remove(n % activator.inbox.len());
        activator.ownership.answered(epoch, &peer(b).uid, held);
    }

    fn relay(&mut self, a: usize) {
        let ownership = &self.activators[a].ownership;
        if !self.activators[a].alive || ownership.role() != Role::Relay {
            return;
        }
        let (epoch, owner) = (ownership.epoch(), ownership.owner().unwrap().clone());
        let receiver = &mut self.activators[number(&owner.uid)];
        if receiver.alive {
            let _ = receiver.ownership.hear(self.now, epoch, &owner);
        }
    }

    fn crash(&mut self, a: usize) {
        let activator = &mut self.activators[a];
        (activator.alive, activator.at) = (false, [0; PODS]);
        activator.inbox.clear();
    }

    fn restart(&mut self, a: usize) {
        if self.activators[a].alive {
            return;
        }
        self.believed[a] = true;
        let activator = &mut self.activators[a];
        activator.alive = true;
        activator.ownership = Ownership::new(Some(peer(a).uid));
        activator.seen = self.written.len();
        activator.ownership.watch(self.now, self.written.last());
    }

    fn shrink(&mut self) {
        for (believed, activator) in self.believed.iter_mut().zip(&self.activators) {
            *believed &= activator.alive;
        }
        let Some(mut record) = self.written.last().cloned() else { return };
        if let Some(others) = &mut record.others {
            others.retain(|other| self.believed[number(&other.uid)]);
        }
        self.written.push(record);
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Name(a) if self.believed[a] => self.write(Sender::One(peer(a))),
            Op::Name(_) => {}
            Op::Everyone => self.write(Sender::Everyone),
            Op::Nobody => self.write(Sender::Nobody),
            Op::Shrink => self.shrink(),
            Op::Watch(a) => self.watch(a),
            Op::Take(a, p) => drop(self.take(a, p)?),
            Op::Finish(a, p) => self.activators[a].at[p] = self.activators[a].at[p].saturating_sub(1),
            Op::Ask(a, b) => self.ask(a, b),
            Op::Answer(a, n) => self.answer(a, n),
            Op::Relay(a) => self.relay(a),
            Op::Crash(a) => self.crash(a),
            Op::Restart(a) => self.restart(a),
        }
        Ok(())
    }

    /// All news arrive and all requests end: then the owner has every slot, and nobody else any.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.shrink();
        self.restart(0);
        self.write(Sender::One(peer(0)));
        for a in 0..ACTIVATORS {
            self.activators[a].at = [0; PODS];
            for _ in 0..self.written.len() {
                self.watch(a);
            }
        }
        for b in 1..ACTIVATORS {
            self.ask(0, b);
        }
        while !self.activators[0].inbox.is_empty() {
            self.answer(0, 0);
        }
        for p in 0..PODS {
            for _ in 0..self.limit {
                prop_assert!(self.take(0, p)?, "a request waits beside a free pod");
            }
            for a in 0..ACTIVATORS {
                prop_assert!(!self.take(a, p)?, "beyond the limit");
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn no_pod_ever_gets_more_than_its_limit_from_an_owner(
        limit in 1u32..3, ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut world = World::new(limit);
        for op in &ops {
            world.apply(op)?;
        }
        world.settle()?;
    }
}

fn record(epoch: i64, owner: usize, others: &[usize]) -> Record {
    let others = others.iter().map(|n| peer(*n)).collect();
    Record { epoch, sender: Sender::One(peer(owner)), others: Some(others) }
}

fn held(count: u32) -> BTreeMap<String, u32> {
    BTreeMap::from([(pod(0), count)])
}

#[test]
fn an_owner_waits_for_everyone_and_counts_what_they_have() {
    let now = Instant::now();
    let mut owner = Ownership::new(Some(peer(0).uid));
    assert_eq!((owner.role(), owner.may_send(1)), (Role::Everyone, true));
    owner.watch(now, Some(&record(5, 0, &[1, 2])));
    assert_eq!((owner.role(), owner.to_ask().len(), owner.to_ask().len()), (Role::Owner, 2, 0));
    owner.answered(5, &peer(1).uid, held(2));
    assert!(!owner.may_send(1) && owner.may_send(0), "without a limit nothing has to be counted");
    owner.answered(4, &peer(2).uid, BTreeMap::new());
    assert!(!owner.may_send(1), "the answer is of another epoch");
    owner.watch(now, Some(&record(5, 0, &[1])));
    assert!(owner.may_send(1), "who is gone need not answer");
    assert_eq!(owner.occupied(&pod(0)), 2);
    owner.answered(5, &peer(1).uid, BTreeMap::new());
    assert_eq!((owner.occupied(&pod(0)), owner.asks(5, &peer(1).uid)), (0, None));
    owner.watch(now, Some(&record(5, 0, &[1, 2])));
    assert!(owner.may_send(1), "who started later knows the epoch");
}

#[test]
fn another_cell_goes_on_with_what_is_known_and_asks_for_itself() {
    let now = Instant::now();
    let mut first = Ownership::new(Some(peer(0).uid));
    first.watch(now, Some(&record(1, 0, &[1, 2])));
    assert_eq!(first.to_ask().len(), 2);
    first.answered(1, "uid-1", BTreeMap::new());
    first.answered(1, "uid-2", held(1));
    let mut other = first.for_another();
    assert!(other.may_send(1) && other.occupied(&pod(0)) == first.occupied(&pod(0)));
    assert_eq!(other.to_ask().len(), 2);
    assert!(other.asks(1, "uid-1").is_none() && other.asks(1, "uid-2").is_some());
}

#[test]
fn who_yielded_is_not_confused_by_older_news() {
    let now = Instant::now();
    let mut other = Ownership::new(Some(peer(0).uid));
    other.watch(now, Some(&record(5, 0, &[])));
    assert!(other.may_send(1));
    assert!(other.hear(now, 7, &peer(1)));
    assert_eq!((other.role(), other.owner().cloned()), (Role::Relay, Some(peer(1))));
    other.watch(now, Some(&record(6, 0, &[])));
    assert!(!other.may_send(1), "6 is older than what it yielded to");
    assert!(!other.hear(now, 6, &peer(2)) && other.hear(now, 7, &peer(1)) && !other.hear(now, 7, &peer(2)));
    other.watch(now, Some(&record(8, 0, &[])));
    assert!(other.may_send(1));
}

#[test]
fn an_owner_named_by_a_relayed_request_waits_for_the_list() {
    let now = Instant::now();
    let mut owner = Ownership::new(Some(peer(0).uid));
    assert!(owner.hear(now, 3, &peer(0)));
    assert_eq!((owner.role(), owner.may_send(1), owner.to_ask().len()), (Role::Owner, false, 0));
    owner.watch(now, Some(&record(3, 0, &[1])));
    assert_eq!(owner.to_ask(), [peer(1).uid]);
}

#[test]
fn one_that_does_not_answer_is_waited_for_as_long_as_a_request_may_take() {
    let now = Instant::now();
    let mut owner = Ownership::new(Some(peer(0).uid));
    owner.watch(now, Some(&record(5, 0, &[1])));
    let limit = Some(Duration::from_secs(300));
    assert!(!owner.outwaited(now + Duration::from_secs(299), 5, limit));
    assert!(owner.outwaited(now + Duration::from_secs(300), 5, limit));
    assert!(!owner.outwaited(now + Duration::from_secs(3000), 5, None), "requests may take for ever");
}

#[test]
fn requests_wait_while_the_owner_is_out_of_reach() {
    let now = Instant::now();
    let mut other = Ownership::new(Some(peer(0).uid));
    other.watch(now, Some(&record(5, 1, &[0])));
    assert!(other.lost(5) && !other.lost(5));
    assert_eq!(other.role(), Role::Nobody);
    other.found(5);
    assert_eq!(other.role(), Role::Relay);
    assert!(other.lost(5));
    other.watch(now, Some(&record(6, 2, &[0])));
    assert_eq!(other.role(), Role::Relay, "another was named");
    assert!(!other.lost(5), "that is over");
}
