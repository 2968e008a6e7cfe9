//! The command line of `cargo xtask cluster`, shared with this crate's own program.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::options::{ClusterName, Forward, Options, Runtime};
use crate::progress::Progress;
use crate::state::{Lock, Phase, State};
use crate::up::{Up, down, up};

/// Runs a real single-node Kubernetes, without Docker and without downloads of binaries.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    action: Action,
    /// Which cluster; several of different names can be up at once.
    #[arg(long, global = true, default_value = "pilotlight")]
    name: ClusterName,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Builds what is missing, brings the cluster up, and waits until pods run.
    Up(UpArgs),
    /// Stops the cluster and removes all that it left.
    Down,
    /// Says whether the cluster is up, and if not why.
    Status,
    /// Prints a kubeconfig for programs on this host.
    Kubeconfig {
        /// Prints the path of the file rather than its content.
        #[arg(long)]
        path: bool,
    },
    /// Runs a command where pod addresses, Services and cluster DNS answer.
    Exec {
        /// The command, with its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Gives the node images from OCI or Docker archives.
    Import {
        /// The archives.
        #[arg(required = true)]
        archives: Vec<std::path::PathBuf>,
    },
    /// Only builds Kubernetes, CoreDNS and Helm, and prints where they are.
    Build,
}

#[derive(Debug, Args)]
struct UpArgs {
    /// The port of 127.0.0.1 for the API server; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// What starts containers.
    #[arg(long, value_enum, default_value_t)]
    runtime: Runtime,
    /// What else can start them: pods that name this as their runtimeClassName get it.
    #[arg(long, value_name = "RUNTIME")]
    also: Vec<Runtime>,
    /// A port of 127.0.0.1 that leads to an address inside, as HOSTPORT:ADDRESS:PORT. Can be repeated.
    #[arg(long)]
    forward: Vec<Forward>,
    /// How many requests a second each of Kubernetes' controllers may make; upstream's default where absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    controllers_qps: Option<u32>,
    /// Prints every step, however short.
    #[arg(long)]
    verbose: bool,
}

/// Runs the command line to its end and returns the exit code: 0 for success, 130 after an interrupt.
pub fn run(args: ClusterArgs) -> ExitCode {
    let done = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(act(args)),
        Err(source) => Err(Error::Io { what: "starting".to_owned(), source }),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(Error::Interrupted) => {
            eprintln!("{}", Error::Interrupted);
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn act(args: ClusterArgs) -> Result<u8> {
    let name = args.name;
    match args.action {
        Action::Up(choices) => bring_up(name, choices).await?,
        Action::Down => {
            let existed = down(&name).await?;
            eprintln!("cluster {name} {}", if existed { "is down" } else { "was not up" });
        }
        Action::Status => return status(&name),
        Action::Kubeconfig { path } => {
            let file = Cluster::open(&name)?.kubeconfig();
            if path {
                println!("{}", file.display());
            } else {
                print!("{}", std::fs::read_to_string(&file).map_err(Error::io("reading", &file))?);
            }
        }
        Action::Exec { command } => return exec(&Cluster::open(&name)?, &command),
        Action::Import { archives } => {
            for image in Cluster::open(&name)?.import_images(&archives).await? {
                println!("{} {}", image.reference, image.digest);
            }
        }
        Action::Build => {
            for (name, path) in crate::binaries::build(&Progress::start(true)).await? {
                println!("{name} {}", path.display());
            }
        }
    }
    Ok(0)
}

async fn bring_up(name: ClusterName, choices: UpArgs) -> Result<()> {
    let options = Options {
        name,
        api_port: choices.port,
        runtime: choices.runtime,
        more_runtimes: choices.also,
        forwards: choices.forward,
        controllers_qps: choices.controllers_qps,
    };
    match up(&options, &Progress::start(choices.verbose)).await? {
        Up::AlreadyUp(cluster) => eprintln!("cluster {} is up already", cluster.options().name),
        Up::Started { cluster, took } => eprintln!(
            "cluster {name} is up, ready after {seconds:.1} s\n  export KUBECONFIG={kubeconfig}\n  export PATH={bin}:$PATH   # kubectl, helm",
            name = cluster.options().name,
            seconds = took.as_secs_f64(),
            kubeconfig = cluster.kubeconfig().display(),
            bin = cluster.bin().display(),
        ),
    }
    Ok(())
}

fn status(name: &ClusterName) -> Result<u8> {
    let layout = Layout::of(name);
    let alive = Lock::is_held(&layout)?;
    let (text, up) = match (State::read(&layout)?, alive) {
        (Some(State { phase: Phase::Ready { seconds }, options, supervisor, .. }), true) => (
            format!(
                "up (came up in {seconds:.1} s), API server at https://127.0.0.1:{}, supervisor {supervisor}",
                options.api_port
            ),
            true,
        ),
        (_, true) => ("starting or stopping".to_owned(), false),
        (Some(State { phase: Phase::Failed { reason }, .. }), false) => {
            (format!("down: {reason}\n  logs: {}", layout.logs().display()), false)
        }
        (Some(_), false) => ("down: its supervisor was killed; `down` removes what is left".to_owned(), false),
        (None, false) => ("down".to_owned(), false),
    };
    println!("cluster {name} is {text}");
    Ok(u8::from(!up))
}

fn exec(cluster: &Cluster, command: &[String]) -> Result<u8> {
    let (program, args) = command.split_first().expect("clap asks for one at least");
    let status = cluster
        .command(program)
        .args(args)
        .status()
        .map_err(|source| Error::Io { what: format!("starting {program}"), source })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
