//! The typed API of Pilotlight: the `Function` resource, its defaults, rules and conditions, the names and labels that
//! every part agrees on, and the messages between operator and activators.
//!
//! This crate has no I/O and no clock, and depends on nothing else of the workspace.

pub mod boost;
pub mod condition;
pub mod control;
pub mod diagnosis;
pub mod function;
pub mod names;
pub mod park;
pub mod policy;
pub mod rollout;
pub mod routing;
pub mod rules;
pub mod schema;
pub mod status;
pub mod target;
pub mod throttle;
pub mod traffic;
pub mod workload;

pub use function::{Function, FunctionSpec};
pub use schema::crd;
pub use status::FunctionStatus;
