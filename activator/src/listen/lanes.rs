//! Where client connections are served: each on one lane, a thread with a runtime of its own, for as long as it lives. What serves a
//! request then never moves between cores, needs no waking of idle threads to steal it, and finds the pod's connections of its own lane.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// The lane of this thread; 0 outside of lanes.
pub fn current() -> usize {
    LANE.get()
}

/// The threads; they end when this is dropped. Without any, connections are served where they are accepted.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: Vec<Lane>,
    _stop: Option<DropGuard>,
}

#[derive(Debug)]
struct Lane {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// A connection's place on a lane, given back when dropped.
#[derive(Debug)]
pub struct Place {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Place {
    /// What runs its tasks.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lanes {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The machine has no room for a thread, or a runtime has no descriptors left.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let stop = CancellationToken::new();
        let lanes = (0..count).map(|number| lane(number, stop.clone())).collect::<std::io::Result<_>>()?;
        Ok(Self { lanes, _stop: Some(stop.drop_guard()) })
    }

    /// A place for a new connection, on the lane that has the fewest; `None` where there are no lanes.
    pub fn place(&self) -> Option<Place> {
        let lane = self.lanes.iter().min_by_key(|lane| lane.connections.load(Ordering::Relaxed))?;
        lane.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { runtime: lane.runtime.clone(), connections: lane.connections.clone() })
    }
}

fn lane(number: usize, stop: CancellationToken) -> std::io::Result<Lane> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
        LANE.set(number);
        runtime.block_on(stop.cancelled());
    })?;
    Ok(Lane { runtime: handle, connections: Arc::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_the_lane_with_the_fewest_and_leave_it() {
        let lanes = Lanes::start(3).unwrap();
        let numbers = |places: &[Place]| -> Vec<usize> {
            let mut numbers: Vec<usize> = places
                .iter()
                .map(|place| Handle::block_on(&here(), place.runtime().spawn(async { current() })).unwrap())
                .collect();
            numbers.sort_unstable();
            numbers
        };
        let mut places: Vec<Place> = (0..6).filter_map(|_| lanes.place()).collect();
        assert_eq!(numbers(&places), [0, 0, 1, 1, 2, 2]);
        places.remove(1);
        places.extend(lanes.place());
        assert_eq!(numbers(&places), [0, 0, 1, 1, 2, 2], "the place that became free is the next one");
        assert!(Lanes::default().place().is_none());
    }

    fn here() -> Handle {
        static RUNTIME: std::sync::LazyLock<tokio::runtime::Runtime> =
            std::sync::LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).build().unwrap());
        RUNTIME.handle().clone()
    }
}
