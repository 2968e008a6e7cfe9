//! The activator against those who mean it harm: smuggled requests, floods, and bytes that no parser expects.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../activator/addresses.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod addresses;
mod app;
#[path = "../activator/certificates.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod certificates;
mod child;
mod conformance;
mod corpus;
mod downgrade;
#[path = "../activator/fake_scale.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod fake_scale;
mod floods;
mod fuzz;
mod h2wire;
#[path = "../activator/harness.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod harness;
mod mutate;
mod oracle;
#[path = "../activator/ports.rs"]
mod ports;
mod sink;
mod smuggling;
mod targets;
mod wire;
