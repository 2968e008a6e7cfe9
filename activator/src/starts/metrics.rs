//! Metrics of starts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Kind;
use crate::metrics::histogram::Durations;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    rung: &'static str,
}

/// Of all starts.
#[derive(Debug, Default)]
pub struct StartMetrics {
    limit: Family<Labels, Gauge>,
    under_way: Family<Labels, Gauge>,
    waiting: Family<Labels, Gauge>,
    waited: Family<Labels, Durations>,
}

impl StartMetrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        let limit = "Functions that may be starting at once, by the rung that they wake from: what the cluster was found to take";
        registry.register("starts_limit", limit, self.limit.clone());
        registry.register("starts", "Functions that are starting", self.under_way.clone());
        registry.register("starts_waiting", "Functions that wait until they may start", self.waiting.clone());
        let waited = "Waiting until a Function may start, of all that were woken";
        registry.register("start_admission_seconds", waited, self.waited.clone());
    }

    /// One kind's own series.
    pub fn of(&self, kind: Kind) -> KindMetrics {
        let labels = Labels { rung: kind.rung() };
        KindMetrics {
            limit: self.limit.get_or_create_owned(&labels),
            under_way: self.under_way.get_or_create_owned(&labels),
            waiting: self.waiting.get_or_create_owned(&labels),
            waited: self.waited.get_or_create_owned(&labels),
        }
    }
}

/// One kind's series.
#[derive(Debug)]
pub struct KindMetrics {
    /// How many may start at once.
    pub limit: Gauge,
    /// How many do.
    pub under_way: Gauge,
    /// How many wait.
    pub waiting: Gauge,
    /// For how long they did.
    pub waited: Durations,
}
