//! Functions that take over an existing Deployment and its Service (`spec.targetRef`), and give them back.
//!
//! A reconcile is a loop over what is there: [`seen`] → [`fit`] and [`next`] (pure) → [`carry`], until there is nothing left to do, and then the
//! status. What always holds: of the Deployment nothing but `/scale` is written, of the Service nothing but its selector and two annotations; what
//! is written is decided on what the API server shows, not on a cache; a Function that goes gives back first, by its finalizer.

pub mod carry;
pub mod fit;
pub mod next;
pub mod note;
mod reconcile;
pub mod release;
pub mod seen;
mod status;
mod waits;

pub use reconcile::reconcile;
pub use waits::Waits;
