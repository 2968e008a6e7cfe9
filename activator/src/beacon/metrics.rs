//! Metrics of beacons.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// An announced address that Kubernetes then did not confirm: the pod got another one.
pub const CONTRADICTED: &str = "Contradicted";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: &'static str,
}

/// What became of announcements.
#[derive(Default)]
pub struct BeaconMetrics {
    beacons: Family<Labels, Counter>,
}

impl BeaconMetrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Announcements of starting pods, by what became of them: Believed, Known, or why not";
        registry.register("beacons", help, self.beacons.clone());
    }

    /// Counts one.
    pub fn count(&self, result: &'static str) {
        self.beacons.get_or_create(&Labels { result }).inc();
    }
}
