//! The activator on real sockets: loopback servers as pods, a `/scale` in memory, the index fed directly.

mod cold;
mod control;
mod drain;
mod harness;
mod limits;
mod proxy;
mod retry;
mod timeouts;
