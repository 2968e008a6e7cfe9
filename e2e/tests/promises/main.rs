//! What Pilotlight promises a user, each promise shown on a real cluster: one module for each.
//!
//! A test stands in a namespace of its own and runs beside the others, so none disturbs Pilotlight's own components. It waits on
//! conditions; the only times it asserts are promised ones: a diagnosis within 30 s, an answer within `coldStart.timeoutSeconds`.

mod adaptive;
mod admission;
mod adopt;
mod autoscale;
mod beacon;
mod boost;
mod examples;
mod faults;
mod floors;
mod gitops;
mod healing;
mod hostnames;
mod kubectl;
mod metrics;
mod names;
mod ownership;
mod parked;
mod parking;
mod protocols;
mod revisions;
mod rollout;
mod runtime;
mod scaling;
mod schema;
mod security;
mod split;
mod tags;
mod throttle;
mod timeouts;
mod traffic;
mod wake;
