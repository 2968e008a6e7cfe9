//! What the activator writes to, in memory.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use pilotlight_activator::scale::{Scale, ScaleError, ScalePort};
use pilotlight_crds::park::Parking;

/// `/scale` in memory.
#[derive(Default)]
pub(crate) struct FakeScale {
    state: Mutex<FakeState>,
    restored: Mutex<Vec<String>>,
    /// Pods as they are parked, where that differs from what the watch shows.
    parked: Mutex<HashMap<String, Parking>>,
    unparked: Mutex<Vec<(String, u64)>>,
    regrown: Mutex<Vec<String>>,
    /// How often it was asked whether a pod is parked.
    looked: AtomicUsize,
    refusal: Mutex<Option<String>>,
}

#[derive(Default)]
struct FakeState {
    replicas: i32,
    version: u64,
    writes: Vec<i32>,
    reads: u32,
    down: bool,
}

impl FakeScale {
    /// Names of pods whose CPU was asked for, in order.
    pub(crate) fn restored(&self) -> Vec<String> {
        self.restored.lock().unwrap().clone()
    }

    /// Names of pods whose function was asked for, and their turns, in order.
    pub(crate) fn unparked(&self) -> Vec<(String, u64)> {
        self.unparked.lock().unwrap().clone()
    }

    /// How often it was asked whether a pod is parked.
    pub(crate) fn looked(&self) -> usize {
        self.looked.load(Ordering::Relaxed)
    }

    /// A pod is parked like this, whatever the watch shows.
    pub(crate) fn park(&self, pod: &str, parking: Parking) {
        self.parked.lock().unwrap().insert(pod.to_owned(), parking);
    }

    /// No pod gets its function back.
    /// Pods that were to request again what their function needs.
    pub(crate) fn regrown(&self) -> Vec<String> {
        self.regrown.lock().unwrap().clone()
    }

    pub(crate) fn refuse_unpark(&self, why: &str) {
        *self.refusal.lock().unwrap() = Some(why.to_owned());
    }

    pub(crate) fn writes(&self) -> Vec<i32> {
        self.state.lock().unwrap().writes.clone()
    }

    pub(crate) fn reads(&self) -> u32 {
        self.state.lock().unwrap().reads
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.state.lock().unwrap().down = down;
    }

    /// As the operator would.
    pub(crate) fn write(&self, replicas: i32) {
        let mut state = self.state.lock().unwrap();
        state.replicas = replicas;
        state.version += 1;
    }

    pub(crate) fn version(&self) -> u64 {
        self.state.lock().unwrap().version
    }

    /// As the operator would, on condition of the version; `false` on conflict.
    pub(crate) fn write_if(&self, replicas: i32, version: u64) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.version != version {
            return false;
        }
        state.replicas = replicas;
        state.version += 1;
        true
    }
}

impl ScalePort for FakeScale {
    fn get<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Scale, ScaleError>> {
        Box::pin(async {
            let mut state = self.state.lock().unwrap();
            state.reads += 1;
            if state.down {
                return Err(ScaleError::Unavailable("connection refused".into()));
            }
            Ok(Scale { replicas: state.replicas, resource_version: state.version.to_string() })
        })
    }

    fn set<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        replicas: i32,
        version: &'a str,
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let mut state = self.state.lock().unwrap();
            if state.down {
                return Err(ScaleError::Unavailable("connection refused".into()));
            }
            if state.version.to_string() != version {
                return Err(ScaleError::Conflict);
            }
            state.replicas = replicas;
            state.version += 1;
            state.writes.push(replicas);
            Ok(())
        })
    }

    fn parking<'a>(&'a self, _: &'a str, pod: &'a str) -> BoxFuture<'a, Result<Option<Parking>, ScaleError>> {
        Box::pin(async move {
            if self.state.lock().unwrap().down {
                return Err(ScaleError::Unavailable("connection refused".into()));
            }
            self.looked.fetch_add(1, Ordering::Relaxed);
            Ok(self.parked.lock().unwrap().get(pod).cloned())
        })
    }

    fn regrow<'a>(&'a self, _: &'a str, pod: &'a str, _: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        self.regrown.lock().unwrap().push(pod.to_owned());
        Box::pin(async { Ok(()) })
    }

    fn unpark<'a>(&'a self, _: &'a str, pod: &'a str, parking: &'a Parking) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let down = self.state.lock().unwrap().down;
            self.unparked.lock().unwrap().push((pod.to_owned(), parking.turn));
            if down {
                return Err(ScaleError::Unavailable("connection refused".into()));
            }
            if let Some(why) = self.refusal.lock().unwrap().clone() {
                return Err(ScaleError::Refused(why));
            }
            let mut parked = self.parked.lock().unwrap();
            if parked.get(pod).is_some_and(|found| found != parking) {
                return Err(ScaleError::Conflict);
            }
            parked.remove(pod);
            Ok(())
        })
    }

    fn restore<'a>(&'a self, _: &'a str, pod: &'a str, _: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            self.restored.lock().unwrap().push(pod.to_owned());
            if self.state.lock().unwrap().down {
                return Err(ScaleError::Unavailable("connection refused".into()));
            }
            Ok(())
        })
    }
}
