//! The `pilotlight-activator` binary: parses flags, starts the runtime, and reports what stopped it. All behaviour lives in
//! the library, so that tests start the very same activator with addresses and state of their own.

use clap::Parser;
use pilotlight_activator::args::Args;
use pilotlight_activator::{logging, runtime};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    logging::init(args.log_json);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(runtime::run(args))
}
