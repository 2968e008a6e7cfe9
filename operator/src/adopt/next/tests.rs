//! Takes a fake Service and Deployment over and gives them back, from every state that a crash between two writes can leave.

use super::*;

fn selector() -> Selector {
    Selector::from([("app".to_owned(), "api".to_owned())])
}

/// A cluster, as far as `next` looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct World {
    bound: bool,
    selector: Option<Selector>,
    note: Option<(Selector, u32)>,
    replicas: u32,
    /// Ready pods.
    ready: u32,
    slice: bool,
    /// Kubernetes' own slices: `Some(ready)`.
    others: Option<bool>,
    activators: bool,
    patient: bool,
    lingered: bool,
}

impl World {
    /// Before anybody heard of Pilotlight.
    fn plain(replicas: u32) -> Self {
        Self {
            bound: false,
            selector: Some(selector()),
            note: None,
            replicas,
            ready: replicas,
            slice: false,
            others: Some(replicas > 0),
            activators: true,
            patient: true,
            lingered: false,
        }
    }

    fn scene(&self, aim: Aim) -> Scene {
        Scene {
            aim,
            bound: self.bound,
            service: Some(ServiceScene {
                selector: self.selector.clone(),
                noted_selector: self.note.as_ref().map(|(selector, _)| selector.clone()),
                noted_replicas: self.note.as_ref().map(|(_, replicas)| *replicas),
                noted: self.note.is_some(),
            }),
            replicas: Some(self.replicas),
            pods: selector(),
            slice: if self.slice { Slice::Right } else { Slice::Missing },
            target: self.activators,
            others: self.others.is_some(),
            others_ready: self.others == Some(true),
            patient: self.patient,
            lingered: self.lingered,
            all_goes: false,
        }
    }

    /// Whether a request to the Service is answered, at once or after a wake.
    fn leads(&self) -> bool {
        self.slice || (self.selector.is_some() && self.others == Some(true))
    }

    fn write(&mut self, step: &Step) {
        match step {
            Step::Bind => self.bound = true,
            Step::Note(selector, replicas) => self.note = Some((selector.clone(), *replicas)),
            Step::Lead => {
                self.slice = true;
                self.lingered = false;
            }
            Step::Unselect => self.selector = None,
            Step::Clear => {
                assert_eq!(self.selector, None, "Kubernetes would make them again");
                self.others = None;
            }
            Step::Scale(replicas) => self.replicas = *replicas,
            Step::Select(selector) => self.selector = Some(selector.clone()),
            Step::Unlead => self.slice = false,
            Step::Forget => self.note = None,
            Step::Unbind => self.bound = false,
            Step::Rest(_) => {}
        }
    }

    /// What others do in time.
    fn pass_time(&mut self) {
        self.ready = self.replicas;
        if self.selector.is_some() {
            self.others = Some(self.ready > 0);
        }
        self.lingered = !self.slice;
    }

    /// Writes until there is nothing left to do. `seen` is told of each state on the way.
    fn run(&mut self, aim: Aim, seen: &mut dyn FnMut(&Self)) -> Rest {
        for _ in 0..50 {
            match next(&self.scene(aim)) {
                Step::Rest(rest @ (Rest::Adopted | Rest::Released | Rest::Held)) => return rest,
                Step::Rest(_) => {
                    let before = self.clone();
                    self.pass_time();
                    if *self == before {
                        return Rest::AwaitsActivators;
                    }
                }
                step => {
                    let led = self.leads();
                    self.write(&step);
                    assert!(self.leads() || !led, "{step:?} broke the way: {self:?}");
                    seen(self);
                }
            }
        }
        panic!("it never comes to rest: {self:?}");
    }
}

/// The states on the way from a plain Service to one that is taken over, both included.
fn adopting(replicas: u32) -> Vec<World> {
    let mut world = World::plain(replicas);
    let mut states = vec![world.clone()];
    assert_eq!(world.run(Aim::Adopt, &mut |world| states.push(world.clone())), Rest::Adopted);
    states
}

#[test]
fn a_plain_service_is_taken_over_in_this_order() {
    let mut world = World::plain(3);
    let mut steps = Vec::new();
    while steps.len() < 20 {
        let step = next(&world.scene(Aim::Adopt));
        world.write(&step);
        steps.push(step.clone());
        if let Step::Rest(_) = step {
            break;
        }
    }
    let order = [Step::Bind, Step::Note(selector(), 3), Step::Lead, Step::Unselect, Step::Clear];
    assert_eq!(steps, order.into_iter().chain([Step::Rest(Rest::Adopted)]).collect::<Vec<_>>());
}

#[test]
fn nothing_is_taken_before_somebody_is_there_to_lead_to() {
    let mut world = World { activators: false, ..World::plain(2) };
    assert_eq!(world.run(Aim::Adopt, &mut |_| {}), Rest::AwaitsActivators);
    assert_eq!((world.selector, world.slice), (Some(selector()), false));
}

#[test]
fn it_is_given_back_from_every_state() {
    for replicas in [0, 1, 3] {
        for state in adopting(replicas) {
            // At zero, woken to one, as it was, or scaled up.
            for now in [0, 1, replicas, replicas + 2] {
                let taken = state.selector.is_none() && state.others.is_none();
                let now = if taken { now } else { replicas };
                let mut world = World { replicas: now, ready: now, ..state.clone() };
                assert_eq!(world.run(Aim::Release, &mut |_| {}), Rest::Released);
                world.pass_time();
                let left = World { lingered: world.lingered, ..World::plain(world.replicas) };
                assert_eq!(world, left, "nothing of Pilotlight's is left");
                assert!(world.replicas >= replicas.max(u32::from(taken)), "{world:?}");
                assert!(world.replicas <= now.max(replicas).max(1), "{world:?}");
            }
        }
    }
}

#[test]
fn it_is_taken_over_again_from_every_state_of_a_release() {
    for state in adopting(2) {
        let mut releasing = World { replicas: if state.others.is_none() { 0 } else { 2 }, ..state };
        let mut states = vec![releasing.clone()];
        releasing.run(Aim::Release, &mut |world| states.push(world.clone()));
        for mut world in states {
            assert_eq!(world.run(Aim::Adopt, &mut |_| {}), Rest::Adopted);
            assert_eq!((world.selector, world.slice, world.others), (None, true, None));
            assert_eq!(world.note, Some((selector(), 2)), "what it had at first");
        }
    }
}

#[test]
fn activators_lead_until_the_pods_do_or_patience_is_over() {
    let mut world = adopting(2).pop().expect("the last");
    world.replicas = 0;
    world.ready = 0;
    for step in [Step::Scale(2), Step::Select(selector()), Step::Rest(Rest::AwaitsEndpoints)] {
        assert_eq!(next(&world.scene(Aim::Release)), step);
        world.write(&step);
    }
    world.patient = false;
    assert_eq!(next(&world.scene(Aim::Release)), Step::Unlead);
    world.patient = true;
    world.others = Some(true);
    assert_eq!(next(&world.scene(Aim::Release)), Step::Unlead);
    world.write(&Step::Unlead);
    assert_eq!(next(&world.scene(Aim::Release)), Step::Rest(Rest::Lingers), "kube-proxy is behind");
}

#[test]
fn a_selector_that_somebody_sets_is_taken_away_again_and_noted_if_it_is_another() {
    let mut world = adopting(2).pop().expect("the last");
    world.replicas = 0;
    world.selector = Some(selector());
    world.others = Some(false);
    assert_eq!(next(&world.scene(Aim::Adopt)), Step::Unselect);
    let other = Selector::from([("app".to_owned(), "b".to_owned())]);
    world.selector = Some(other.clone());
    assert_eq!(next(&world.scene(Aim::Adopt)), Step::Note(other.clone(), 2), "with the replicas that it had");
    assert_eq!(world.run(Aim::Adopt, &mut |_| {}), Rest::Adopted);
    assert_eq!(world.run(Aim::Release, &mut |_| {}), Rest::Released);
    assert_eq!(world.selector, Some(other));
}

#[test]
fn what_does_not_fit_any_more_stays_led() {
    let world = adopting(2).pop().expect("the last");
    let scene = world.scene(Aim::Hold);
    assert_eq!(next(&scene), Step::Rest(Rest::Held));
    assert_eq!(next(&Scene { slice: Slice::Stale, ..scene.clone() }), Step::Lead, "activators come and go");
    assert_eq!(next(&Scene { slice: Slice::Stale, target: false, ..scene }), Step::Rest(Rest::Held));
}

#[test]
fn a_service_that_is_gone_keeps_no_function_from_going() {
    let world = adopting(2).pop().expect("the last");
    let gone = Scene { service: None, slice: Slice::Missing, ..world.scene(Aim::Release) };
    assert_eq!(next(&Scene { replicas: Some(0), ..gone.clone() }), Step::Scale(1));
    assert_eq!(next(&gone), Step::Unbind);
    assert_eq!(next(&Scene { replicas: None, ..gone.clone() }), Step::Unbind);
    assert_eq!(next(&Scene { bound: false, ..gone }), Step::Rest(Rest::Released));
    let no_deployment = Scene { replicas: None, ..world.scene(Aim::Release) };
    assert_eq!(next(&no_deployment), Step::Select(selector()));
    let selected = World { selector: Some(selector()), others: Some(false), ..world };
    assert_eq!(next(&Scene { replicas: None, ..selected.scene(Aim::Release) }), Step::Unlead, "nobody will be ready");
}

#[test]
fn a_note_that_was_lost_is_replaced_by_the_deployment_s_own_selector() {
    let world = World { note: None, replicas: 0, ready: 0, ..adopting(2).pop().expect("the last") };
    assert_eq!(next(&world.scene(Aim::Release)), Step::Scale(1));
    let scaled = World { replicas: 1, ..world };
    assert_eq!(next(&scaled.scene(Aim::Release)), Step::Select(selector()));
}

#[test]
fn a_namespace_that_goes_takes_all_with_it_and_waits_for_nothing() {
    let mut states = adopting(2);
    let mut releasing = World { replicas: 0, ready: 0, ..states[states.len() - 1].clone() };
    releasing.run(Aim::Release, &mut |world| states.push(world.clone()));
    for world in states {
        let goes = Scene { all_goes: true, ..world.scene(Aim::Release) };
        let next_step = if world.bound { Step::Unbind } else { Step::Rest(Rest::Released) };
        assert_eq!(next(&goes), next_step, "{world:?}");
    }
}
