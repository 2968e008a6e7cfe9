//! Tests of the autoscaler: the activators are real HTTP servers on loopback, the API server is a model of `/scale` and its versions.

mod evaluating;
mod fakes;
mod idling;
mod knowing;
mod listening;
mod moving;
mod parking;
mod refusing;
mod sharing;
mod stepping;
mod throttling;
