//! The `pilotlight-activator` binary: parses flags, starts the runtime, and reports what stopped it. All behaviour lives in
//! the library, so that tests start the very same activator with addresses and state of their own.

use clap::Parser;
use mimalloc::MiMalloc;
use pilotlight_activator::args::Args;
use pilotlight_activator::runtime;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    runtime::init_logging(args.log_json);
    // Client connections have threads and runtimes of their own; this one accepts them, watches, probes and answers the operator.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(runtime::run(args))
}
