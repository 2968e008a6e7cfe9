//! Pilotlight's data plane. It routes requests to Functions, holds them while no pod is ready, wakes the pods, balances and
//! proxies, and counts, so that the operator can scale.
//!
//! The decisions are pure and synchronous ([`index`], [`route`], [`choice`], [`function::state`], [`wake`]); sockets and the Kubernetes API
//! stay at the edge ([`listen`], [`proxy`], [`endpoint`], [`scale`], [`watch`]).

pub mod admin;
pub mod args;
pub mod beacon;
pub mod choice;
pub mod control;
pub mod endpoint;
pub mod error;
#[cfg(test)]
mod fixtures;
pub mod function;
pub mod index;
pub mod insiders;
pub mod lanes;
pub mod led;
pub mod limits;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod ownership;
pub mod proxy;
pub mod publish;
pub mod registry;
pub mod relay;
pub mod route;
pub mod runtime;
pub mod scale;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod turns;
pub mod wake;
pub mod watch;
