//! From where requests reach a Function, as an author says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From where requests reach a Function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Visibility {
    /// From outside the cluster, too.
    #[default]
    External,
    /// From inside the cluster alone.
    Cluster,
}

impl Visibility {
    /// Whether it is the default.
    pub fn is_external(&self) -> bool {
        *self == Self::External
    }
}
