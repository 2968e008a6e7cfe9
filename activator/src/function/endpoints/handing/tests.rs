//! Two cells and a pod that goes from one to the other and back.

use std::sync::Arc;
use std::time::Instant;

use crate::endpoint::Upstream;
use crate::fixtures;
use crate::function::endpoints::{Endpoints, Phase, SlotRef};
use crate::function::handshake::Handshakes;
use crate::index::{FunctionConfig, PodView};
use crate::limits::Limits;

struct Cell {
    endpoints: Endpoints,
    config: FunctionConfig,
    now: Instant,
}

impl Cell {
    /// With a limit of one, and what other cells have at each pod.
    fn of(revision: &str) -> Self {
        let config = FunctionConfig { revision: Some(revision.into()), limit: 1, ..fixtures::config() };
        Self { endpoints: Endpoints::default(), config, now: Instant::now() }
    }

    fn show(&mut self, pods: &[Arc<PodView>], elsewhere: u32) {
        self.endpoints.set_pods(pods, |pod| Arc::new(Upstream::new(pod, &Limits::default())));
        self.endpoints.occupy(|_| elsewhere);
        self.endpoints.refresh(self.now, &Handshakes::default(), &self.config);
    }

    fn pass(&mut self, pods: &[Arc<PodView>]) {
        for target in self.endpoints.to_probe(pods) {
            assert!(self.endpoints.passed(self.now, target.index, target.id));
        }
        self.endpoints.refresh(self.now, &Handshakes::default(), &self.config);
    }

    fn take(&mut self) -> Option<SlotRef> {
        self.endpoints.reserve(0)
    }

    fn phases(&self) -> Vec<Phase> {
        self.endpoints.iter().map(|endpoint| endpoint.phase).collect()
    }
}

fn pods() -> Vec<Arc<PodView>> {
    vec![Arc::new(fixtures::pod(1))]
}

#[test]
fn a_pod_that_is_known_to_be_ready_is_so_in_the_other_cell_at_once() {
    let (mut old, mut new) = (Cell::of("hello-2"), Cell::of("hello-1"));
    old.show(&pods(), 0);
    old.pass(&pods());
    let handed = old.endpoints.part(|_| false);
    assert!(old.endpoints.is_empty() && old.take().is_none());
    new.endpoints.receive(handed);
    new.show(&pods(), 0);
    assert!(new.endpoints.to_probe(&pods()).is_empty());
    assert_eq!((new.phases(), new.endpoints.usable()), (vec![Phase::Ready], 1));
    assert!(new.take().is_some());
}

#[test]
fn requests_at_a_pod_stay_where_they_are_and_fill_it_in_the_other_cell() {
    let (mut old, mut new) = (Cell::of("hello-2"), Cell::of("hello-1"));
    old.show(&pods(), 0);
    old.pass(&pods());
    let slot = old.take().unwrap();
    new.endpoints.receive(old.endpoints.part(|_| false));
    assert_eq!(old.phases(), [Phase::Draining]);
    new.show(&pods(), 1);
    assert!(new.take().is_none(), "it is at its limit");
    // And back, while that request lasts: the pod has one place in a cell.
    old.endpoints.receive(new.endpoints.part(|_| false));
    old.show(&pods(), 0);
    new.show(&[], 0);
    assert_eq!((old.phases(), new.endpoints.is_empty()), (vec![Phase::Ready], true));
    assert!(old.take().is_none());
    old.endpoints.release(&slot);
    assert!(old.take().is_some());
}

#[test]
fn a_pod_that_is_probed_is_probed_anew_and_one_that_ends_is_not_handed_over() {
    let (mut old, mut new) = (Cell::of("hello-2"), Cell::of("hello-1"));
    old.show(&pods(), 0);
    let probed = old.endpoints.to_probe(&pods());
    new.endpoints.receive(old.endpoints.part(|_| false));
    assert!(!old.endpoints.keep_probing(probed[0].index, probed[0].id), "its prober ends");
    new.show(&pods(), 0);
    assert_eq!(new.endpoints.to_probe(&pods()).len(), 1);
    new.pass(&pods());
    let ending = vec![Arc::new(PodView { terminating: true, ..fixtures::pod(1) })];
    new.pass(&pods());
    new.show(&ending, 0);
    assert!(new.endpoints.part(|_| false).is_empty());
}
