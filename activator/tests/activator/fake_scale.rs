//! What the activator writes to, in memory.

use std::sync::Mutex;

use futures::future::BoxFuture;
use pilotlight_activator::scale::{Scale, ScaleError, ScalePort};

/// `/scale` in memory.
#[derive(Default)]
pub(crate) struct FakeScale {
    state: Mutex<FakeState>,
    restored: Mutex<Vec<String>>,
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
