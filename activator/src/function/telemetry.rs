//! What is counted of retries, ejections and throttled pods. Each Function holds its own series, so that counting touches an atomic only.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::index::FunctionKey;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    namespace: String,
    function: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    namespace: String,
    function: String,
    kind: &'static str,
}

/// The request had reached no pod.
const UNSENT: &str = "unsent";
/// The request may have reached a pod, and was safe to send again.
const REPLAYED: &str = "replayed";

fn labels(key: &FunctionKey) -> Labels {
    Labels { namespace: key.namespace.to_string(), function: key.name.to_string() }
}

fn retry_labels(key: &FunctionKey, kind: &'static str) -> RetryLabels {
    RetryLabels { namespace: key.namespace.to_string(), function: key.name.to_string(), kind }
}

/// All Functions' series.
#[derive(Debug, Default)]
pub struct BalanceMetrics {
    retries: Family<RetryLabels, Counter>,
    exhausted: Family<Labels, Counter>,
    ejections: Family<Labels, Counter>,
    restores: Family<Labels, Counter>,
    unparks: Family<Labels, Counter>,
    lost: Family<Labels, Counter>,
}

impl BalanceMetrics {
    /// Names and describes them.
    pub fn register(&self, registry: &mut Registry) {
        let retries = "Requests sent again: those that reached no pod (unsent), and safe ones that may have (replayed)";
        registry.register("retries", retries, self.retries.clone());
        let exhausted = "Requests that were not sent again because the retry budget was used up";
        registry.register("retry_budget_exhausted", exhausted, self.exhausted.clone());
        let ejections = "Pods that got no more requests for a while because they kept failing";
        registry.register("ejections", ejections, self.ejections.clone());
        let restores = "Throttled pods that got their CPU back for a request";
        registry.register("restores", restores, self.restores.clone());
        let unparks = "Parked pods that got their function back for a request";
        registry.register("unparks", unparks, self.unparks.clone());
        let lost = "Parked pods whose function could not be had, so that another pod was asked for";
        registry.register("unparks_failed", lost, self.lost.clone());
    }

    /// A Function's own series.
    pub fn function(&self, key: &FunctionKey) -> FunctionBalance {
        FunctionBalance {
            unsent: self.retries.get_or_create_owned(&retry_labels(key, UNSENT)),
            replayed: self.retries.get_or_create_owned(&retry_labels(key, REPLAYED)),
            exhausted: self.exhausted.get_or_create_owned(&labels(key)),
            ejections: self.ejections.get_or_create_owned(&labels(key)),
            restores: self.restores.get_or_create_owned(&labels(key)),
            unparks: self.unparks.get_or_create_owned(&labels(key)),
            lost: self.lost.get_or_create_owned(&labels(key)),
        }
    }

    /// Drops the series of a Function that is gone.
    pub fn forget(&self, key: &FunctionKey) {
        self.retries.remove(&retry_labels(key, UNSENT));
        self.retries.remove(&retry_labels(key, REPLAYED));
        self.exhausted.remove(&labels(key));
        self.ejections.remove(&labels(key));
        self.restores.remove(&labels(key));
        self.unparks.remove(&labels(key));
        self.lost.remove(&labels(key));
    }
}

/// One Function's series.
#[derive(Debug)]
pub struct FunctionBalance {
    /// Sent again after reaching no pod.
    pub unsent: Counter,
    /// Sent again although it may have reached a pod.
    pub replayed: Counter,
    /// Not sent again, because the budget was used up.
    pub exhausted: Counter,
    /// Pods ejected.
    pub ejections: Counter,
    /// Throttled pods that got their CPU back.
    pub restores: Counter,
    /// Parked pods that got their function back.
    pub unparks: Counter,
    /// Parked pods that did not.
    pub lost: Counter,
}
