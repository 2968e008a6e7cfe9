//! How many replicas a Function should have: pure decisions over plain data.
//!
//! Nothing here knows Kubernetes, an async runtime, a socket or a clock; `now` is an argument. The way of a decision:
//! activators' batches are aligned to whole seconds ([`Alignment`]), [`Coverage`] remembers which seconds each activator
//! has told about, [`Windows`] keeps one Function's load in them, and [`decide`] turns the [`Load`] into a [`Decision`].
//! Who begins to decide late [looks back](look_back) first. Beside load there is the time of day: [`scheduled`] says which floor cron schedules ask for at a moment, and until when.
//!
//! What an idle Function should cost meanwhile is another question, and [`idle`] answers it.
//!
//! What always holds: no data is not zero. A second that an activator did not tell about is filled with its last share, and
//! nothing is scaled down on it.

mod alignment;
mod coverage;
mod decide;
mod demand;
mod hindsight;
pub mod idle;
mod load;
mod memory;
mod policy;
mod reason;
mod rest;
mod schedule;
mod time;
mod windows;

pub use alignment::Alignment;
pub use coverage::{ActivatorId, Coverage, Origin, Span};
pub use decide::{Decision, Floor, FloorReason, Input, decide};
pub use hindsight::look_back;
pub use idle::Rung;
pub use load::{Average, Load, Service, Window};
pub use memory::Memory;
pub use policy::{Metric, Policy, Target, USUAL_IDLE_SECONDS};
pub use reason::{Bound, Cause, Reason};
pub use rest::{Adaptive, is_fresh};
pub use schedule::{Schedule, ScheduleError, Scheduled, scheduled};
pub use time::{Millis, Second};
pub use windows::{Sample, Windows};
