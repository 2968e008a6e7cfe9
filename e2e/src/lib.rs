//! What tests, demo and benchmarks share: how to reach a real cluster, its Functions, and the tools that a user types.
//!
//! Everything here waits on conditions with a deadline, and a deadline that passes says what was last seen.

pub mod chart;
pub mod cold_start;
pub mod exclusive;
pub mod existing;
pub mod fixture;
pub mod flaky;
pub mod floor;
pub mod gitops;
pub mod history;
pub mod http;
pub mod kill;
pub mod load;
pub mod namespace;
pub mod reach;
pub mod renew;
pub mod rung;
pub mod runtime;
pub mod sample;
pub mod stage;
pub mod stream;
pub mod timeline;
pub mod tools;
pub mod traefik;
pub mod wait;
pub mod websocket;
