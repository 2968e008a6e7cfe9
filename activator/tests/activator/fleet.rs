//! Several activators on loopback addresses of their own, each in a runtime of its own that can be killed, and what the operator would
//! tell them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Request, StatusCode};
use pilotlight_activator::runtime::Config;
use pilotlight_crds::Function;
use pilotlight_crds::status::{ActivatorRef, RouteOwner};
use tokio::runtime::Runtime;

use crate::harness::{Body, FakePod, World, eventually, text};
use crate::ports::free_port;

/// Activators with one Function, `hello` in `shop`, whose hard concurrency limit is 1.
pub(crate) struct Fleet {
    members: Vec<Option<Member>>,
    http_port: u16,
    control_port: u16,
    pub(crate) route_port: u16,
    limit: u32,
    pods: Vec<FakePod>,
}

struct Member {
    world: World,
    runtime: Option<Runtime>,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn ip(n: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11 + u8::try_from(n).unwrap()))
}

pub(crate) fn reference(n: usize) -> ActivatorRef {
    ActivatorRef { pod: format!("activator-{n}"), uid: format!("uid-{n}"), address: ip(n).to_string() }
}

/// The record that names `owner`, and `others` to be asked.
pub(crate) fn owned_by(owner: usize, epoch: i64, others: &[usize]) -> RouteOwner {
    RouteOwner {
        epoch,
        activator: Some(reference(owner)),
        everyone: false,
        others: others.iter().map(|n| reference(*n)).collect(),
    }
}

impl Fleet {
    pub(crate) fn new(members: usize) -> Self {
        let port = || free_port((0..6).map(ip));
        let mut fleet = Self {
            members: Vec::new(),
            http_port: port(),
            control_port: port(),
            route_port: port(),
            limit: 1,
            pods: Vec::new(),
        };
        for n in 0..members {
            fleet.members.push(None);
            fleet.restart(n);
        }
        fleet
    }

    /// Starts an activator, which knows the pods and nothing of an owner.
    pub(crate) fn restart(&mut self, n: usize) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = Config {
            bind: ip(n),
            http_port: self.http_port,
            control_port: self.control_port,
            pod_uid: Some(reference(n).uid),
            ..World::config()
        };
        let world = {
            let _context = runtime.enter();
            World::configured(|settings| *settings = config)
        };
        self.members[n] = Some(Member { world, runtime: Some(runtime) });
        for pod in &self.pods {
            self.within(n, |world| world.pod(pod));
        }
    }

    /// As kill -9: every task and every socket is gone at once.
    pub(crate) fn kill(&mut self, n: usize) {
        self.members[n] = None;
    }

    /// Does something as the activator's own tasks would.
    pub(crate) fn within<T>(&self, n: usize, act: impl FnOnce(&World) -> T) -> T {
        let member = self.members[n].as_ref().expect("it runs");
        let _context = member.runtime.as_ref().expect("it runs").enter();
        act(&member.world)
    }

    /// Changes the hard concurrency limit that the next word of the operator comes with.
    pub(crate) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// The Function as one activator's watch shows it.
    pub(crate) fn tell(&self, n: usize, owner: Option<&RouteOwner>) {
        self.tell_with(n, owner, |_| {});
    }

    pub(crate) fn tell_with(&self, n: usize, owner: Option<&RouteOwner>, edit: impl FnOnce(&mut Function)) {
        let edit = |function: &mut Function| {
            function.spec.concurrency.limit = self.limit;
            let route = function.status.as_mut().unwrap().route.as_mut().unwrap();
            route.port = self.route_port;
            route.owner = owner.cloned();
            edit(function);
        };
        self.within(n, |world| world.apply(edit));
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|n| self.members[*n].is_some()).collect()
    }

    /// The Function as every activator's watch shows it, and every route port open.
    pub(crate) async fn tell_all(&self, owner: &RouteOwner) {
        for n in self.running() {
            self.tell(n, Some(owner));
        }
        self.until_open().await;
    }

    pub(crate) async fn until_open(&self) {
        for n in self.running() {
            let open = || std::net::TcpStream::connect(SocketAddr::new(ip(n), self.route_port)).is_ok();
            eventually("a route port is open", open).await;
        }
    }

    pub(crate) fn add_pod(&mut self, pod: FakePod) {
        for n in self.running() {
            self.within(n, |world| world.pod(&pod));
        }
        self.pods.push(pod);
    }

    pub(crate) async fn until_load(&self, n: usize, wanted: (u32, u32)) {
        eventually(&format!("load {wanted:?} at {n}"), || self.within(n, World::load) == wanted).await;
    }

    /// A request to one activator: to the port that all Functions share, or to this one's own.
    pub(crate) fn request(&self, n: usize, own_port: bool, method: &str, path: &str, body: Body) -> Request<Body> {
        let (port, host) = if own_port { (self.route_port, "whatever") } else { (self.http_port, "hello.shop") };
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", SocketAddr::new(ip(n), port)))
            .header("host", host)
            .body(body)
            .unwrap()
    }

    pub(crate) fn http(&self, n: usize) -> SocketAddr {
        SocketAddr::new(ip(n), self.http_port)
    }

    pub(crate) fn control(&self, n: usize) -> SocketAddr {
        SocketAddr::new(ip(n), self.control_port)
    }
}

/// What an app that allows one request at a time has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) running: AtomicU32,
    pub(crate) served: AtomicU32,
    pub(crate) overlaps: AtomicU32,
}

struct Running(Arc<Seen>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers 500 when two requests are at it at once. One whose connection is closed ends with it.
pub(crate) async fn exclusive(seen: Arc<Seen>) -> FakePod {
    FakePod::start(move |_| {
        let seen = seen.clone();
        async move {
            let overlaps = seen.running.fetch_add(1, Ordering::SeqCst) > 0;
            let running = Running(seen.clone());
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            drop(running);
            seen.served.fetch_add(1, Ordering::SeqCst);
            let mut response = text("done");
            if overlaps {
                seen.overlaps.fetch_add(1, Ordering::SeqCst);
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        }
    })
    .await
}
