//! A Function, a pod of it and their `/scale`, as the watches and the API server would show them, for the tests of single parts: each changes
//! what it is about.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pilotlight_crds::park::Parking;
use pilotlight_crds::workload::Protocol;

use crate::index::{FunctionConfig, FunctionKey, PodBeacon, PodView};
use crate::scale::{Scale, ScaleError, ScalePort};

/// The Function `hello` in `shop`, without limits of concurrency or time.
pub(crate) fn config() -> FunctionConfig {
    FunctionConfig {
        external: true,
        key: FunctionKey::new("shop", "hello"),
        port: None,
        hostnames: Vec::new(),
        revision: Some("hello-1".into()),
        split: Box::default(),
        directions: Arc::default(),
        named: false,
        adopts: false,
        wake_replicas: 1,
        limit: 0,
        target: 100,
        request_timeout: None,
        response_start_timeout: None,
        slow_after: None,
        idle_stream_timeout: None,
        cold_start_timeout: Duration::from_secs(60),
        pending_requests: 1000,
        pending_bytes: 1_000_000,
        failing: None,
        owner: None,
    }
}

/// A pod of its revision `hello-1` that runs at 10.0.0.`number` and is not ready in Kubernetes' eyes.
pub(crate) fn pod(number: u8) -> PodView {
    PodView {
        uid: format!("uid-{number}").into(),
        name: format!("hello-1-{number}").into(),
        function: FunctionKey::new("shop", "hello"),
        revision: "hello-1".into(),
        address: Some(([10, 0, 0, number], 8080).into()),
        protocol: Protocol::HTTP1,
        checks: Vec::new(),
        terminating: false,
        finished: false,
        ready: false,
        diagnosis: None,
        beacon: PodBeacon::default(),
        throttled: false,
        parking: None,
        turn: 0,
        function_runs: true,
        stuck: false,
    }
}

/// The `/scale` of a Deployment that has its replica.
pub(crate) struct OneReplica;

impl ScalePort for OneReplica {
    fn get<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Scale, ScaleError>> {
        Box::pin(async { Ok(Scale { replicas: 1, resource_version: "1".into() }) })
    }

    fn set<'a>(&'a self, _: &'a str, _: &'a str, _: i32, _: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async { Err(ScaleError::Conflict) })
    }

    fn parking<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<Parking>, ScaleError>> {
        Box::pin(async { Ok(None) })
    }

    fn regrow<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async { Ok(()) })
    }

    fn unpark<'a>(&'a self, _: &'a str, _: &'a str, _: &'a Parking) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async { Ok(()) })
    }

    fn restore<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async { Ok(()) })
    }
}
