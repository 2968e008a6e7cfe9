//! What must hold while parts of Pilotlight are killed, and across every moment of a step to zero. These tests disturb the
//! components, so they run one after the other and apart from all others.

mod drain_node;
mod fail_open;
mod graceful;
mod hostnames;
mod image_gone;
mod kill;
mod kill_one;
mod limits;
mod step_to_zero;
