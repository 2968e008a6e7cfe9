//! The process that makes a node out of empty namespaces: mounts, network, then one component after the other, each
//! as soon as what it needs answers. It stays to watch them: one that is killed by SIGKILL is started again, as on any node (a test may want
//! that), and the first that ends otherwise, ends the cluster.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::command::{find_program, output_of, tail};
use crate::components::{self, Component};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::stages::{Event, Plan};
use crate::{api, images, mounts, network};

/// How long any single component may take. Generous: a machine that is busy, or emulated, is not a broken one.
const PATIENCE: Duration = Duration::from_secs(300);

/// Before a component that was killed is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// A component that ended, with its last words.
struct Died(String);

/// Starts components, and tells when one ends.
struct Components {
    layout: Layout,
    deaths: mpsc::UnboundedSender<Died>,
}

/// Runs the stage: returns only with the reason of the end.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let layout = plan.layout();
    // Before any thread exists: threads that came first would keep the old view.
    mounts::set_up(&layout, &plan.options.runtimes())?;
    let hostname = Path::new("/proc/sys/kernel/hostname");
    fs::write(hostname, network::NODE_NAME).map_err(Error::io("setting", hostname))?;
    raise_file_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io { what: "starting".to_owned(), source })?;
    runtime.block_on(async {
        let (deaths, mut died) = mpsc::unbounded_channel();
        let components = Components { layout: layout.clone(), deaths };
        let ended = async { died.recv().await.map_or_else(String::new, |Died(words)| words) };
        tokio::pin!(ended);
        tokio::select! {
            done = start(plan, &components) => done?,
            words = &mut ended => return Err(Error::Internal(words)),
        }
        Err(Error::Internal(ended.await))
    })
}

/// Components and containers inherit the limit, and a shell's is lower than what a node gives its containers.
fn raise_file_limit() -> Result<()> {
    const USUAL: rlim_t = 1_048_576;
    if setrlimit(Resource::RLIMIT_NOFILE, USUAL, USUAL).is_ok() {
        return Ok(());
    }
    // Without CAP_SYS_RESOURCE the hard limit stays.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Error::sys("getrlimit"))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(Error::sys("setrlimit"))
}

/// Brings everything up; returns when pods can run.
async fn start(plan: &Plan, components: &Components) -> Result<()> {
    let began = Instant::now();
    let layout = &components.layout;
    link_programs(plan, layout)?;
    step("network set up", network::set_up()).await?;
    step("etcd and containerd answer", async {
        components.start(components::etcd(layout))?;
        components.start(components::containerd(layout))?;
        until_connects("127.0.0.1:2379").await?;
        // While the runtime is starting, the API server is too.
        components.start(components::apiserver(layout))?;
        images::import_pause(layout, PATIENCE).await
    })
    .await?;
    let client = api::client(&layout.kubeconfig_inside()).await?;
    step("API server answers", api::until("the API server being ready", PATIENCE, || api::readyz(&client))).await?;
    let runtimes = plan.options.runtimes();
    step("node takes pods", async {
        components.start(components::controller_manager(layout, plan.options.controllers_qps))?;
        components.start(components::scheduler(layout))?;
        components.start(components::kubelet(layout))?;
        components.start(components::proxy(layout))?;
        api::until("the first objects being accepted", PATIENCE, || api::bootstrap(&client, &runtimes)).await?;
        components.start(components::coredns(layout))?;
        api::until("the node being ready", PATIENCE, || api::node_takes_pods(&client)).await
    })
    .await?;
    step("names resolve", async {
        api::until("cluster DNS resolving a name", PATIENCE, || async { api::name_resolves() }).await?;
        api::until("the default service account existing", PATIENCE, || api::default_account(&client)).await
    })
    .await?;
    Event::Ready { seconds: began.elapsed().as_secs_f64() }.report();
    Ok(())
}

/// Does one step and reports how long it took.
async fn step(text: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
    let began = Instant::now();
    work.await?;
    Event::Step { text: text.to_owned(), seconds: began.elapsed().as_secs_f64() }.report();
    Ok(())
}

async fn until_connects(address: &str) -> Result<()> {
    api::until(&format!("{address} answering"), PATIENCE, || async {
        tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
    })
    .await
}

/// Gives the built programs the names that they go by.
fn link_programs(plan: &Plan, layout: &Layout) -> Result<()> {
    for (name, program) in &plan.programs {
        let link = layout.bin().join(name);
        symlink(program, &link).map_err(Error::io("linking", &link))?;
    }
    Ok(())
}

/// `PATH` for components and for commands inside the cluster.
pub(crate) fn search_path(layout: &Layout) -> String {
    format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", layout.bin().display())
}

/// Runs a program of the system inside, with the components' `PATH`.
pub(crate) async fn run_inside(layout: &Layout, program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", search_path(layout));
    output_of(command).await
}

impl Components {
    fn start(&self, component: Component) -> Result<()> {
        let linked = self.layout.bin().join(component.program);
        let program = if linked.exists() { Some(linked) } else { find_program(component.program) };
        let program = program.ok_or_else(|| Error::ProgramsMissing(component.program.to_owned()))?;
        let log = self.layout.logs().join(format!("{}.log", component.name));
        let running = Running { component, program, path: search_path(&self.layout), log };
        let child = running.spawn()?;
        let deaths = self.deaths.clone();
        tokio::spawn(async move {
            // Nobody listens only when the cluster ends anyway.
            let _ = deaths.send(Died(running.watch(child).await));
        });
        Ok(())
    }
}

/// What it takes to start a component, and to start it again.
struct Running {
    component: Component,
    program: PathBuf,
    path: String,
    log: PathBuf,
}

impl Running {
    fn spawn(&self) -> Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log).map_err(Error::io("opening", &self.log))?;
        let errors = log.try_clone().map_err(Error::io("opening", &self.log))?;
        let mut command = Command::new(&self.program);
        // Nothing of the user's environment, such as a proxy, reaches into the cluster.
        command.args(&self.component.args).env_clear().env("PATH", &self.path).env("HOME", "/root");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let name = self.component.name;
        command.spawn().map_err(|source| Error::Io { what: format!("starting {name}"), source })
    }

    /// Returns when it has ended and is not started again, with its last words.
    async fn watch(&self, mut child: Child) -> String {
        let name = self.component.name;
        loop {
            let status = match child.wait().await {
                Ok(status) if status.signal() == Some(Signal::SIGKILL as i32) => {
                    tokio::time::sleep(RESTART_AFTER).await;
                    match self.spawn() {
                        Ok(again) => {
                            child = again;
                            continue;
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            let words = tail(&fs::read_to_string(&self.log).unwrap_or_default(), 3);
            return format!("{name} ended ({status}). Its last words: {words}");
        }
    }
}
