//! pilotlight-activator

fn main() {}
