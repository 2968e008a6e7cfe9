//! The small program beside a function, and in its place while it is parked: it runs in each pod, so it costs next to nothing. Blocking sockets
//! of the standard library, no runtime; threads only for who listens in a function's place.
//!
//! What always holds: SIGTERM and SIGINT end it at once, wherever it is, so that it never delays a pod's end; it never exits by itself once it
//! has begun, because kubelet would start it again.

mod announce;
mod answer;
mod config;
mod placeholder;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use config::Config;

const USAGE: &str = "usage: pilotlight-pilot beacon
       K_SERVICE=… PORT=… pilotlight-pilot [the function's arguments]

beacon  tells the activators the address of the pod that it runs in, then sleeps. Everything comes from the environment:
        POD_NAMESPACE, POD_UID, POD_IP (downward API: metadata.namespace, metadata.uid, status.podIP),
        PILOTLIGHT_FUNCTION, PILOTLIGHT_REVISION, and PILOTLIGHT_ACTIVATORS (addresses with port, separated by commas)

Where the environment is a function's (K_SERVICE and PORT are set), it stands in for it while it is parked, whatever the arguments:
        answers kubelet's probes on PORT and on PILOTLIGHT_PROBE_PORTS (separated by commas)";

fn main() -> ExitCode {
    if let Err(error) = end_at_signals() {
        eprintln!("cannot listen for signals: {error}");
        return ExitCode::FAILURE;
    }
    if let Some(ports) = placeholder::ports(|name| std::env::var(name).ok()) {
        if let Err(error) = placeholder::stand_in(&ports) {
            eprintln!("cannot stand in for the function: {error}");
            return ExitCode::FAILURE;
        }
        sleep();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().map(String::as_str).ne(["beacon"]) {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    match Config::from_variables(|name| std::env::var(name).ok()) {
        Ok(config) => announce::announce(&config),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    }
    sleep()
}

/// Until a signal.
fn sleep() -> ! {
    loop {
        std::thread::park();
    }
}

/// The kernel keeps signals without a handler from the first process of a container; here the handler itself ends the process.
fn end_at_signals() -> std::io::Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 0, always.clone())?;
    }
    Ok(())
}
