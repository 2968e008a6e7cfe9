//! The activator against those who mean it harm: smuggled requests, floods, and bytes that no parser expects.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod app;
mod corpus;
#[path = "../activator/harness.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod harness;
mod mutate;
mod oracle;
mod smuggling;
mod wire;
