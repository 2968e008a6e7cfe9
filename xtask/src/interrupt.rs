//! Ctrl-C ends a command at its next step rather than at once, so that what it made is taken down again. The program that runs just
//! then gets the signal as well, and ends its step.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

static CAME: AtomicBool = AtomicBool::new(false);

/// Whether an interrupt came.
pub(crate) fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// Listens for SIGINT and SIGTERM from now on.
pub(crate) fn listen() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                CAME.store(true, Ordering::Relaxed);
                eprintln!("interrupted: taking down what was made");
            }
        });
    });
    Ok(())
}
