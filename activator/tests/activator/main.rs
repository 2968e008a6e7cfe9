//! The activator on real sockets: loopback servers as pods, a `/scale` in memory, the index fed directly.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access_log;
mod addresses;
mod adopted;
mod beacon;
mod certificates;
mod cold;
mod control;
mod directions;
mod drain;
mod errors;
mod fake_scale;
mod flags;
mod fleet;
mod grpc;
mod harness;
mod headers;
mod http1;
mod lanes;
mod leaving;
mod limits;
mod ownership;
mod parked;
mod ports;
mod pressure;
mod proxy;
mod relay;
mod retry;
mod sides;
mod split;
mod sticky;
mod streams;
mod telemetry;
mod throttle;
mod timeouts;
mod tls;
mod upgrades;
mod verdicts;
mod wire;
