//! Pilotlight's operator: makes every Function's revisions, Service, EndpointSlice and status, and scales it.
//!
//! A reconcile is a pipeline with a file each: [`observe`] → [`validate`] → [`build`] (pure) → [`apply`] → [`status`] (pure) →
//! [`write`]. That of a Function which takes over a Deployment is [`adopt`]. [`run`] and [`release`] are the two commands of the binary.

pub mod adopt;
pub mod apply;
pub mod autoscaler;
pub mod boost;
pub mod build;
pub mod cache;
pub mod cli;
pub mod contention;
pub mod context;
pub mod controller;
pub mod cpu;
pub mod drift;
pub mod event_writer;
pub mod gateway;
pub mod hostnames;
pub mod http;
pub mod leader;
pub mod metrics;
pub mod observe;
pub mod owner;
pub mod pilot;
pub mod ports;
pub mod reconcile;
pub mod release;
pub mod revisions;
pub mod route;
pub mod run;
pub mod status;
pub mod traffic;
pub mod transitions;
pub mod validate;
pub mod write;
