//! A Function and its pods as the watches would show them.

use std::sync::Arc;
use std::time::Duration;

use pilotlight_crds::workload::Protocol;

use crate::endpoint::Upstream;
use crate::index::{FunctionConfig, FunctionKey, PodBeacon, PodView, ProbeCheck};
use crate::limits::Limits;

pub(super) fn config(limit: u32) -> Arc<FunctionConfig> {
    Arc::new(FunctionConfig {
        key: FunctionKey::new("shop", "hello"),
        port: None,
        revision: Some("hello-1".into()),
        wake_replicas: 1,
        limit,
        target: 100,
        request_timeout: None,
        response_start_timeout: None,
        idle_stream_timeout: None,
        cold_start_timeout: Duration::from_secs(60),
        pending_requests: 1000,
        pending_bytes: 1_000_000,
        failing: None,
        owner: None,
    })
}

pub(super) fn pod(number: usize) -> Arc<PodView> {
    Arc::new(PodView {
        uid: format!("uid-{number}").into(),
        name: format!("hello-1-{number}").into(),
        function: FunctionKey::new("shop", "hello"),
        revision: "hello-1".into(),
        address: Some(([10, 0, 0, u8::try_from(number).unwrap()], 8080).into()),
        protocol: Protocol::HTTP1,
        checks: vec![ProbeCheck::Tcp { port: 8080 }],
        terminating: false,
        finished: false,
        ready: false,
        diagnosis: None,
        beacon: PodBeacon::default(),
        throttled: false,
    })
}

pub(super) fn upstream(pod: &PodView) -> Arc<Upstream> {
    Arc::new(Upstream::new(pod, &Limits::default()))
}
