//! Lanes: threads that serve requests, one for each core, each with a scheduler of its own (thread per core). A client's connection stays on
//! the lane that it was given, and so do the connections to pods that its requests use: nothing of a request crosses threads, and what is
//! ready on a lane runs in the order in which it became so, which turns (`crate::turns`) rely on. Everything else – watches, the
//! control protocol, metrics – runs on the thread that started the lanes.
//!
//! A new connection goes to the lane that has fewest, so that a few long-lived ones do not meet on one (Envoy calls it exact balance).

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

thread_local! {
    /// Which lane this thread is.
    static LANE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// More lanes than that are only started when they are asked for: each has connections of its own to each pod.
const MOST: usize = 8;

/// How many lanes there are when nobody says: as many as cores that this process may use (of its affinity and its cgroup's quota, the
/// smaller), up to eight.
pub fn usual() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST)
}

/// One value for each lane, made where it is first asked for. Off the lanes, the first lane's.
#[derive(Debug)]
pub struct PerLane<T>(Box<[OnceLock<T>]>);

impl<T> PerLane<T> {
    /// None is made yet. `lanes`: how many there are; at least one.
    pub fn new(lanes: usize) -> Self {
        Self((0..lanes.max(1)).map(|_| OnceLock::new()).collect())
    }

    /// This lane's.
    pub fn here(&self, make: impl FnOnce() -> T) -> &T {
        // A thread of more lanes than this has can only be another activator's, in a test.
        self.0[LANE.get().unwrap_or(0) % self.0.len()].get_or_init(make)
    }

    /// All that were made.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get)
    }
}

#[derive(Debug)]
struct Lane {
    runtime: Handle,
    connections: AtomicUsize,
}

/// The lanes of one activator.
#[derive(Debug)]
pub struct Lanes {
    lanes: Box<[Lane]>,
    /// The lane of the next listener.
    listeners: AtomicUsize,
}

/// The threads of lanes. Dropped, they end, and what still runs on them is cut.
#[derive(Debug, Default)]
pub struct Threads {
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Lanes {
    /// One lane, the runtime that this is called in.
    pub fn here() -> Self {
        Self::of(vec![Handle::current()])
    }

    /// Starts `count` threads, at least one.
    ///
    /// # Errors
    /// The system has no room for another thread or another `epoll`.
    pub fn start(count: usize) -> io::Result<(Self, Threads)> {
        let (mut handles, mut threads) = (Vec::new(), Threads::default());
        for lane in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let stop = threads.stop.clone();
            let thread = std::thread::Builder::new().name(format!("lane-{lane}")).spawn(move || {
                LANE.set(Some(lane));
                runtime.block_on(stop.cancelled());
            })?;
            threads.threads.push(thread);
        }
        Ok((Self::of(handles), threads))
    }

    fn of(handles: Vec<Handle>) -> Self {
        let lane = |runtime| Lane { runtime, connections: AtomicUsize::new(0) };
        Self { lanes: handles.into_iter().map(lane).collect(), listeners: AtomicUsize::new(0) }
    }

    /// Runs a listener on one lane, the next in turn, as one of `tasks`: who waits for these waits for what it accepts last, too.
    pub fn spawn_listener<F: Future<Output = ()> + Send + 'static>(&self, tasks: &TaskTracker, listener: F) {
        let lane = self.listeners.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        tasks.spawn_on(listener, &self.lanes[lane].runtime);
    }

    /// A place for a new connection, on the lane that has fewest; where several have, on this one.
    pub fn seat(self: &Arc<Self>) -> Seat {
        let load = |lane: usize| self.lanes[lane].connections.load(Ordering::Relaxed);
        let here = LANE.get().unwrap_or(0) % self.lanes.len();
        let lane = (0..self.lanes.len()).fold(here, |best, lane| if load(lane) < load(best) { lane } else { best });
        self.lanes[lane].connections.fetch_add(1, Ordering::Relaxed);
        Seat { lanes: self.clone(), lane }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // It has nothing to tell: a panic in it was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// One connection's place on a lane, until dropped.
#[derive(Debug)]
pub struct Seat {
    lanes: Arc<Lanes>,
    lane: usize,
}

impl Seat {
    /// Serves `stream` on this lane, as one of `tasks`.
    ///
    /// # Errors
    /// The lane has no room to watch one more socket.
    pub fn serve<S, F>(self, stream: TcpStream, tasks: &TaskTracker, serve: S) -> io::Result<()>
    where
        S: FnOnce(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = self.lanes.lanes[self.lane].runtime.clone();
        let stream = if LANE.get() == Some(self.lane) {
            stream
        } else {
            // A socket is watched by the runtime in which it was registered.
            let stream = stream.into_std()?;
            let _entered = runtime.enter();
            TcpStream::from_std(stream)?
        };
        let serving = async move {
            serve(stream).await;
            drop(self);
        };
        tasks.spawn_on(serving, &runtime);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lanes.lanes[self.lane].connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    fn seats(lanes: &Lanes) -> Vec<usize> {
        lanes.lanes.iter().map(|lane| lane.connections.load(Ordering::Relaxed)).collect()
    }

    #[tokio::test]
    async fn a_new_connection_goes_to_the_lane_that_has_fewest() {
        let (lanes, _threads) = Lanes::start(3).unwrap();
        let lanes = Arc::new(lanes);
        let mut taken: Vec<Seat> = (0..6).map(|_| lanes.seat()).collect();
        assert_eq!(seats(&lanes), [2, 2, 2]);
        let left: Vec<Seat> = taken.extract_if(.., |seat| seat.lane == 1).collect();
        drop(left);
        assert_eq!(seats(&lanes), [2, 0, 2]);
        taken.extend((0..2).map(|_| lanes.seat()));
        assert_eq!(seats(&lanes), [2, 2, 2]);
    }

    #[tokio::test]
    async fn a_connection_is_served_on_its_lane_and_its_seat_is_free_afterwards() {
        let (lanes, _threads) = Lanes::start(3).unwrap();
        let (lanes, tasks) = (Arc::new(lanes), TaskTracker::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            let (stream, _) = listener.accept().await.unwrap();
            let tell = tell.clone();
            let serve = move |stream: TcpStream| async move {
                // Waits for the socket, which only the runtime that watches it can end.
                stream.readable().await.unwrap();
                tell.send((LANE.get().unwrap(), std::thread::current().name().map(str::to_owned))).unwrap();
            };
            lanes.seat().serve(stream, &tasks, serve).unwrap();
        }
        drop(clients);
        let mut served = Vec::new();
        for _ in 0..6 {
            served.push(told.recv().await.unwrap());
        }
        served.sort();
        let expected: Vec<_> = (0..6).map(|n| (n / 2, Some(format!("lane-{}", n / 2)))).collect();
        assert_eq!(served, expected);
        tasks.close();
        tasks.wait().await;
        assert_eq!(seats(&lanes), [0, 0, 0]);
    }

    #[tokio::test]
    async fn listeners_are_spread_over_the_lanes() {
        let (lanes, _threads) = Lanes::start(2).unwrap();
        let (tell, mut told) = mpsc::unbounded_channel();
        for _ in 0..4 {
            let tell = tell.clone();
            lanes.spawn_listener(&TaskTracker::new(), async move { tell.send(LANE.get().unwrap()).unwrap() });
        }
        let mut ran = Vec::new();
        for _ in 0..4 {
            ran.push(told.recv().await.unwrap());
        }
        ran.sort_unstable();
        assert_eq!(ran, [0, 0, 1, 1]);
    }

    #[tokio::test]
    async fn what_still_runs_is_cut_with_the_threads() {
        let (lanes, threads) = Lanes::start(2).unwrap();
        let (held, mut cut) = mpsc::channel::<()>(1);
        lanes.spawn_listener(&TaskTracker::new(), async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(threads);
        assert_eq!(cut.recv().await, None);
    }

    #[test]
    fn each_lane_has_a_value_of_its_own() {
        let values = Arc::new(PerLane::new(2));
        *values.here(|| std::sync::Mutex::new(1)).lock().unwrap() += 1;
        let other = values.clone();
        let on_another_lane = move || {
            LANE.set(Some(1));
            *other.here(|| std::sync::Mutex::new(10)).lock().unwrap() += 1;
        };
        std::thread::spawn(on_another_lane).join().unwrap();
        assert_eq!(values.iter().map(|value| *value.lock().unwrap()).collect::<Vec<_>>(), [2, 11]);
    }
}
