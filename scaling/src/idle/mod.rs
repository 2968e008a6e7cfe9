//! The idle ladder: which rung an idle Function should be on, and from when. Pure decisions over plain data, like all of this crate.
//!
//! [`follow`] takes the explicit steps of an author. [`adapt`] learns ([`Learnt`]) how long a Function stays idle, how long each rung takes
//! to wake and what it holds in memory, and takes the plan whose expected cost is the least at the stated [`Prices`]. [`Ledger`] tells what
//! that saved.
//!
//! What always holds: a decision names an available rung, says why in words and numbers, and when to look again at the latest.

mod adapt;
mod codec;
mod cost;
mod forecast;
mod gaps;
mod learnt;
mod ledger;
mod plan;
mod reason;
mod rung;
mod steps;

pub use adapt::{HOLD_MILLIS, Idle, adapt};
pub use codec::{LearntError, MAX_TEXT_BYTES};
pub use cost::{Footprint, Prices, Reserved, Wakes};
pub use learnt::{Gap, Learnt};
pub use ledger::{Ledger, Usage};
pub use reason::IdleReason;
pub use rung::{Rung, Rungs};
pub(crate) use steps::{Kept, kept};
pub use steps::{Step, follow};

use crate::time::Millis;

/// What an idle Function should be on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleDecision {
    /// The rung; always an available one.
    pub rung: Rung,
    /// Replicas on it: 0 at [`Rung::Zero`], at least 1 elsewhere.
    pub replicas: u32,
    /// Why.
    pub reason: IdleReason,
    /// When to decide again if the Function stays idle. `None`: not before there is a request.
    pub next_look: Option<Millis>,
}
