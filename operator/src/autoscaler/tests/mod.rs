//! Tests of the autoscaler against fake activators.
