//! The cells of one Function: the door, to which all ways to the Function lead, and one more for each further revision that gets requests,
//! by its share, a tag or a rule, or still has some.
//!
//! What always holds: a revision's pods are in one cell, so that a hard concurrency limit stays exact; no cell is forgotten that anybody
//! could still bring a request to, or that has something to tell; most Functions have the door alone, and cost nothing for this.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::FunctionCell;
use super::assign::{Seat, assign};
use super::endpoints::Endpoint;
use super::state::Neighbours;
use crate::choice::Plan;
use crate::index::function::cause;
use crate::index::{FunctionConfig, PodView};
use crate::ownership::Ownership;

/// All cells of one Function.
pub struct Group {
    door: Arc<FunctionCell>,
    further: Vec<Arc<FunctionCell>>,
}

impl Group {
    /// With the door alone.
    pub fn new(door: Arc<FunctionCell>) -> Self {
        Self { door, further: Vec::new() }
    }

    /// The cell that all ways to the Function lead to.
    pub fn door(&self) -> &Arc<FunctionCell> {
        &self.door
    }

    /// All of them, the door first.
    pub fn cells(&self) -> impl Iterator<Item = &Arc<FunctionCell>> {
        std::iter::once(&self.door).chain(&self.further)
    }

    /// Takes in what the watches show.
    pub fn update(&mut self, now: Instant, config: &Arc<FunctionConfig>, pods: Vec<Arc<PodView>>) {
        self.forget(now);
        if !self.further.is_empty() || !config.split.is_empty() {
            return self.share_out(now, config, pods);
        }
        if !self.door.look().is_alone() {
            self.door.lock().stand_alone();
            self.door.split.close();
        }
        let mut pods = pods;
        pods.retain(|pod| !config.named || Some(&pod.revision) == config.revision.as_ref());
        let cause = cause(config, &pods);
        self.door.update(config.clone(), pods, cause);
    }

    /// Whether the next [`Group::update`] has something to do though the watches show nothing new: to forget a cell, or to count anew what
    /// cells have at each other's pods.
    pub fn is_due(&self, now: Instant) -> bool {
        !self.further.is_empty()
            && (self.further.iter().any(|cell| self.is_over(cell, now))
                || self.cells().any(|cell| cell.look().counts_elsewhere()))
    }

    /// Cells that got no requests any more and have none.
    fn forget(&mut self, now: Instant) {
        let mut further = std::mem::take(&mut self.further);
        further.retain(|cell| !self.is_over(cell, now));
        self.further = further;
    }

    /// Whoever has a request for it has hold of the cell, too, and nobody else could give it away again.
    fn is_over(&self, cell: &Arc<FunctionCell>, now: Instant) -> bool {
        Arc::strong_count(cell) == 1 && !self.door.split.serves(Some(cell)) && cell.look().is_idle(now)
    }

    fn share_out(&mut self, now: Instant, config: &Arc<FunctionConfig>, pods: Vec<Arc<PodView>>) {
        let portions = config.portions();
        let wanted: Vec<Arc<str>> = portions.iter().map(|portion| portion.revision.clone()).collect();
        let seats: Vec<Seat> = self.cells().map(|cell| self.seat(cell, now)).collect();
        let assignment = assign(&seats, &wanted);
        for revision in assignment.revisions.iter().skip(seats.len()) {
            let cell = self.door.beside(config.of_revision(revision.as_ref()));
            self.further.push(Arc::new(cell));
        }
        let rest = match assignment.serving.as_slice() {
            [only] if !config.named => Some(*only),
            _ => None,
        };
        let dealt = deal(&assignment.revisions, rest, pods);
        let cells: Vec<Arc<FunctionCell>> = self.cells().cloned().collect();
        let neighbours = meet(now, &cells, &dealt);
        for (((cell, revision), pods), neighbours) in cells.iter().zip(&assignment.revisions).zip(dealt).zip(neighbours)
        {
            let config = config.of_revision(revision.as_ref());
            let cause = cause(&config, &pods);
            cell.lock().meet(neighbours);
            cell.update(config, pods, cause);
        }
        if wanted.is_empty() {
            return;
        }
        let serving = assignment.serving.iter().map(|at| (*at > 0).then(|| cells[*at].clone())).collect();
        self.door.split.set(serving, Plan::new(&portions, config.directions.clone()));
    }

    fn seat(&self, cell: &Arc<FunctionCell>, now: Instant) -> Seat {
        let further = Some(cell).filter(|cell| !Arc::ptr_eq(cell, &self.door));
        let mut state = cell.look();
        Seat {
            revision: state.config().revision.clone(),
            serves: self.door.split.serves(further),
            holds: !state.is_idle(now),
        }
    }

    /// The Function is gone: whoever waits is told, and nobody can begin to wait.
    pub fn close(&self) {
        let (door, cells) = (self.door.clone(), self.cells().cloned().collect::<Vec<_>>());
        cells.iter().for_each(|cell| cell.lock().closed = true);
        tokio::spawn(async move {
            for cell in &cells {
                cell.dismiss().await;
            }
            door.shared.metrics.forget(door.metrics());
        });
    }
}

/// Each cell's pods: those of its revision, and for the one at `rest` those that are no cell's. While traffic moves to a newer revision that has no
/// pod yet, they are better than none; not so where the author names a revision, perhaps because they are broken.
fn deal(revisions: &[Option<Arc<str>>], rest: Option<usize>, pods: Vec<Arc<PodView>>) -> Vec<Vec<Arc<PodView>>> {
    let mut dealt = vec![Vec::new(); revisions.len()];
    for pod in pods {
        let own = revisions.iter().position(|revision| revision.as_ref() == Some(&pod.revision));
        if let Some(at) = own.or(rest) {
            dealt[at].push(pod);
        }
    }
    dealt
}

/// Lets the cells give up the pods that are not theirs any more, and only then counts what each has at the others': nothing is added to that.
fn meet(now: Instant, cells: &[Arc<FunctionCell>], dealt: &[Vec<Arc<PodView>>]) -> Vec<Neighbours> {
    let theirs: Vec<HashSet<&str>> = dealt.iter().map(|pods| pods.iter().map(|pod| &*pod.uid).collect()).collect();
    let part = |(cell, theirs): (&Arc<FunctionCell>, &HashSet<&str>)| cell.lock().part(now, |uid| theirs.contains(uid));
    let mut handed: Vec<Endpoint> = cells.iter().zip(&theirs).flat_map(part).collect();
    let held: Vec<BTreeMap<String, u32>> = cells.iter().map(|cell| cell.at_pods()).collect();
    let ownership = cells.iter().map(|cell| cell.look().ownership().clone()).max_by_key(Ownership::epoch);
    let mut all = Vec::new();
    for (at, theirs) in theirs.iter().enumerate() {
        let endpoints = handed.extract_if(.., |endpoint| theirs.contains(&*endpoint.uid)).collect();
        let others = held.iter().enumerate().filter(|(other, _)| *other != at).flat_map(|(_, held)| held);
        let mut elsewhere = BTreeMap::new();
        for (uid, count) in others.filter(|(uid, _)| theirs.contains(uid.as_str())) {
            *elsewhere.entry(uid.clone()).or_default() += *count;
        }
        all.push(Neighbours { endpoints, elsewhere, ownership: ownership.clone().unwrap_or_default() });
    }
    handed.iter().for_each(|nobodys| nobodys.upstream.close_idle());
    all
}

#[cfg(test)]
mod tests;
