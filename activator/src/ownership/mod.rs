//! Who may send to the pods of a Function with a hard concurrency limit: one activator, the owner, which counts every request at
//! them. The operator names it in the Function's status; all others hand their requests to it ([`crate::relay`]).
//!
//! What decides is pure ([`state`]); [`claim`] asks the other activators.

pub mod claim;
pub mod record;
pub mod state;

pub use record::{Peer, Record, Sender};
pub use state::{Ownership, Role};
