//! Revisions over a Function's life, without an API server: what the plan wants is what exists next.

use super::*;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use pilotlight_crds::Function;
use pilotlight_crds::status::{RevisionState, RevisionStatus, RouteStatus};

use crate::build::deployment::deployment;

/// A Function's cluster: Deployments by number, with their replicas.
struct World {
    status: FunctionStatus,
    deployments: BTreeMap<u64, (Revision, i32)>,
    remembered: BTreeMap<u64, Revision>,
    generation: i64,
    named: Vec<&'static str>,
}

fn revision(number: u64, hash: &str) -> Revision {
    Revision { number, hash: hash.to_owned(), template: PodTemplateSpec::default() }
}

impl World {
    fn new() -> Self {
        Self {
            status: FunctionStatus::default(),
            deployments: BTreeMap::new(),
            remembered: BTreeMap::new(),
            generation: 1,
            named: Vec::new(),
        }
    }

    fn plan(&self, hash: Option<&str>) -> RevisionPlan {
        let function = Function::new("hello", Default::default());
        let deployments: Vec<_> = self
            .deployments
            .values()
            .map(|(revision, replicas)| {
                let mut live = deployment(&function, revision, None);
                if let Some(spec) = &mut live.spec {
                    spec.replicas = Some(*replicas);
                }
                Arc::new(live)
            })
            .collect();
        plan(&RevisionInput {
            hash,
            build: &|number| revision(number, hash.unwrap_or_default()),
            generation: Some(self.generation),
            status: &self.status,
            named: &self.named,
            deployments: &deployments,
            remembered: &self.remembered,
        })
    }

    /// Plans and does what was planned.
    fn step(&mut self, hash: &str) -> RevisionPlan {
        let plan = self.plan(Some(hash));
        for revision in &plan.wanted {
            self.deployments.entry(revision.number).or_insert_with(|| (revision.clone(), 0));
        }
        for number in &plan.discarded {
            self.deployments.remove(number);
        }
        self.status.observed_generation = Some(self.generation);
        self.status.revisions = plan
            .wanted
            .iter()
            .map(|r| RevisionStatus {
                name: r.name("hello"),
                number: i64::try_from(r.number).unwrap(),
                image: String::new(),
                state: RevisionState::Pending,
                reason: None,
                replicas: 0,
            })
            .collect();
        plan
    }

    fn edit(&mut self) {
        self.generation += 1;
    }

    fn route(&mut self, number: u64) {
        let revision = Some(format!("hello-{number}"));
        self.status.route = Some(RouteStatus { port: 10_000, revision, ..RouteStatus::default() });
    }

    fn numbers(plan: &RevisionPlan) -> Vec<u64> {
        plan.wanted.iter().map(|r| r.number).collect()
    }
}

#[test]
fn the_first_revision_is_number_one_and_a_second_look_changes_nothing() {
    let mut world = World::new();
    let first = world.step("a");
    assert!(first.creates);
    assert_eq!(World::numbers(&first), [1]);
    let second = world.step("a");
    assert!(!second.creates);
    assert_eq!(second.wanted, first.wanted);
}

#[test]
fn a_change_of_the_spec_makes_the_next_number_and_going_back_does_too() {
    let mut world = World::new();
    world.step("a");
    world.edit();
    assert_eq!(World::numbers(&world.step("b")), [2, 1]);
    world.edit();
    let back = world.step("a");
    assert_eq!(World::numbers(&back), [3, 2, 1]);
    assert_eq!(back.wanted[0].hash, "a");
}

#[test]
fn an_invalid_spec_keeps_what_is_there() {
    let mut world = World::new();
    world.step("a");
    world.edit();
    let plan = world.plan(None);
    assert_eq!(World::numbers(&plan), [1]);
    assert!(!plan.creates);
}

#[test]
fn a_deleted_deployment_comes_back_with_its_number() {
    let mut world = World::new();
    let first = world.step("a").wanted;
    world.edit();
    world.step("b");
    world.remembered = world.deployments.iter().map(|(number, (revision, _))| (*number, revision.clone())).collect();
    world.deployments.clear();
    let plan = world.plan(Some("b"));
    assert_eq!(World::numbers(&plan), [2, 1]);
    assert_eq!(plan.wanted[1], first[0]);
    assert!(!plan.creates);
}

#[test]
fn a_newest_revision_deleted_while_no_operator_ran_comes_back_unless_the_spec_changed() {
    let mut world = World::new();
    world.step("a");
    world.deployments.clear();
    assert_eq!(World::numbers(&world.plan(Some("a"))), [1]);
    world.edit();
    assert_eq!(World::numbers(&world.plan(Some("b"))), [2]);
}

#[test]
fn old_revisions_go_at_zero_only_and_never_the_one_with_traffic() {
    let mut world = World::new();
    for n in 1..=8 {
        world.edit();
        world.route(1);
        world.step(&n.to_string());
    }
    // 8 is the newest, 1 has the traffic, 3 to 7 are spare.
    assert_eq!(world.deployments.keys().copied().collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7, 8]);
    world.deployments.get_mut(&3).unwrap().1 = 2;
    world.edit();
    let plan = world.step("9");
    assert_eq!(plan.discarded, Vec::<u64>::new());
    world.deployments.get_mut(&3).unwrap().1 = 0;
    assert_eq!(world.step("9").discarded, [3]);
}

#[test]
fn a_revision_that_the_author_names_is_kept_before_it_has_the_traffic() {
    let mut world = World::new();
    world.named = vec!["hello-1"];
    for n in 1..=8 {
        world.edit();
        world.route(n);
        world.step(&n.to_string());
    }
    assert_eq!(world.deployments.keys().copied().collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7, 8]);
    world.named.clear();
    assert_eq!(world.step("8").discarded, [1]);
}

#[test]
fn a_damaged_annotation_does_not_make_a_number_twice() {
    let mut world = World::new();
    world.step("a");
    world.edit();
    world.step("b");
    let function = Function::new("hello", Default::default());
    let mut damaged = deployment(&function, &revision(7, "x"), None);
    damaged.metadata.annotations = None;
    let plan = plan(&RevisionInput {
        hash: Some("c"),
        build: &|number| revision(number, "c"),
        generation: Some(9),
        status: &world.status,
        named: &[],
        deployments: &[Arc::new(damaged)],
        remembered: &BTreeMap::new(),
    });
    assert_eq!(plan.wanted[0].number, 8);
}
