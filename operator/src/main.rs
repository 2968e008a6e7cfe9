//! pilotlight-operator

fn main() {}
