//! How Functions are reached from outside the cluster: by a route of the Gateway API or an Ingress of their own, where the chart says so.
//!
//! Pure; `cache/fronts.rs` watches the objects and `apply/gateway.rs` writes them. What always holds: a route leads to the Function's own Service,
//! so that whatever that does (fail open, a release) holds for requests from outside, too; and only names that the Function has are on it.

mod build;
mod config;
mod judge;
mod kinds;

pub use build::{Outside, ingress, route, routes};
pub use config::{Front, GatewayArgs, IngressRules};
pub use judge::{Word, of_ingress, of_routes};
pub use kinds::{HTTPRoute, HttpRouteSpec, HttpRouteStatus, ParentRef, ParentStatus};

#[cfg(test)]
mod tests;
