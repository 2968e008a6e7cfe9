//! The `pilotlight-activator` binary: parses flags, starts the runtime, and reports what stopped it. All behaviour lives in
//! the library, so that tests start the very same activator with addresses and state of their own.

use clap::Parser;
use pilotlight_activator::args::Args;
use pilotlight_activator::runtime;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    runtime::init_logging(args.log_json);
    // One worker of the scheduler for many serves a crowd's overflow last of all, whoever is in it: on one core, the plain queue is fairer.
    let mut builder = match runtime::cores() {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()?.block_on(runtime::run(args))
}
