//! What the cells of one Function have at its pods together, for the activator that claims these.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;

use super::FunctionCell;

/// The cells that there were when the claim came: those that are made later never send under an older epoch.
#[derive(Clone)]
pub struct Held(Vec<Arc<FunctionCell>>);

impl Held {
    /// What these cells have.
    pub fn by(cells: Vec<Arc<FunctionCell>>) -> Self {
        Self(cells)
    }

    /// Requests at each pod, by its uid.
    pub fn at_pods(&self) -> BTreeMap<String, u32> {
        let mut held = BTreeMap::new();
        for (uid, count) in self.0.iter().flat_map(|cell| cell.at_pods()) {
            let sum: &mut u32 = held.entry(uid).or_default();
            *sum = sum.saturating_add(count);
        }
        held
    }

    /// Resolves when this may have changed from `held`, at the latest after `limit`.
    pub async fn changed(&self, held: &BTreeMap<String, u32>, limit: Duration) {
        let waiting = async {
            loop {
                let mut freed: Vec<_> = self.0.iter().map(|cell| Box::pin(cell.slot_freed.notified())).collect();
                freed.iter_mut().for_each(|freed| {
                    freed.as_mut().enable();
                });
                if self.at_pods() != *held || freed.is_empty() {
                    return;
                }
                select_all(freed).await;
            }
        };
        let _ = tokio::time::timeout(limit, waiting).await;
    }
}
