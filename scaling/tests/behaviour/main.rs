//! What the decisions do, seen from outside: properties against naive oracles, and tables of what happens over time.

mod edges;
mod handover;
mod idle;
mod keeping;
mod properties;
mod resting;
mod samples;
mod scenarios;
mod schedules;
mod simulation;
