//! h2spec, the conformance tests of HTTP/2, against the activator without and with TLS. What fails is listed here with the reason; a test that fails
//! and is not listed, or is listed and does not fail, fails this one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pilotlight_activator::route::Domains;
use tokio::process::Command;

use crate::app::App;
use crate::certificates::{Mount, make, tls};
use crate::harness::{FakePod, World};
use crate::smuggling::Lane;

/// Test of h2spec, and why the activator does something else: without TLS.
const EXPLAINED: &[(&str, &str)] = &[(
    "http2/3.5/2",
    "an invalid preface is no HTTP/2 at all on a port that speaks HTTP/1.1 too: it is answered 400 in HTTP/1.1, then closed",
)];

/// How many tests h2spec 2.2.1 has; fewer would mean that some were not run.
const TESTS: usize = 146;

/// `${XDG_CACHE_HOME:-~/.cache}/pilotlight/h2spec-<hash of its module>/h2spec`, built where it is not there yet.
async fn program() -> PathBuf {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/h2spec");
    let hash = ["main.go", "go.mod", "go.sum"].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, file| {
        let bytes = std::fs::read(module.join(file)).unwrap();
        bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    });
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"), PathBuf::from);
    let program = cache.join(format!("pilotlight/h2spec-{hash:016x}/h2spec"));
    if program.exists() {
        return program;
    }
    let scratch = program.with_extension(format!("building-{}", std::process::id()));
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-o"]).arg(&scratch).arg(".").current_dir(&module);
    go.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly").env_remove("GOWORK");
    let built = go.output().await.expect("Go builds h2spec: install golang-go");
    assert!(built.status.success(), "go build of h2spec: {}", String::from_utf8_lossy(&built.stderr));
    std::fs::rename(&scratch, &program).unwrap();
    program
}

async fn run(port: u16, tls: bool) -> Vec<String> {
    let mut command = Command::new(program().await);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]).stdin(Stdio::null()).kill_on_drop(true);
    command.args(tls.then_some("--tls"));
    let output = tokio::time::timeout(std::time::Duration::from_secs(300), command.output()).await;
    let output = output.expect("h2spec ends within five minutes").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Asserts that everything was run, and that nothing failed but what is explained.
fn judge(lines: &[String], explained: &[(&str, &str)]) {
    let of = |verdict: &str| lines.iter().filter(|line| line.starts_with(verdict)).cloned().collect::<Vec<_>>();
    let (passed, failed, skipped) = (of("PASS "), of("FAIL "), of("SKIP "));
    println!("h2spec: {} passed, {} failed, {} skipped", passed.len(), failed.len(), skipped.len());
    assert_eq!(passed.len() + failed.len() + skipped.len(), lines.len());
    assert!(lines.len() >= TESTS, "only {} tests: {lines:?}", lines.len());
    assert!(skipped.is_empty(), "{}", skipped.join("\n"));
    let name = |line: &String| line.split(' ').nth(1).unwrap_or_default().to_owned();
    let explained: BTreeSet<String> = explained.iter().map(|(name, _)| (*name).to_owned()).collect();
    let got: BTreeSet<String> = failed.iter().map(name).collect();
    let healed: Vec<_> = explained.difference(&got).collect();
    assert_eq!(got, explained, "not explained: {}\nno longer fail: {healed:?}", failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn h2spec_without_tls_fails_nowhere_but_where_it_is_explained() {
    let lane = Lane::new().await;
    judge(&run(lane.address.port(), false).await, EXPLAINED);
}

/// h2spec names the server by its address, and with TLS that is what leads to the Function: `127` in the namespace `0`, below the domain `0.1`. Its app
/// answers requests that are whole; an answer that comes before may be there before h2spec's error, which is allowed.
#[tokio::test(flavor = "multi_thread")]
async fn h2spec_with_tls_fails_nowhere() {
    let mount = Mount::new(&make(&["127.0.0.1"]));
    let world = World::configured(|config| {
        config.tls = Some(tls(&[&mount]));
        config.domains = Domains::new("cluster.local", "0.1");
    });
    world.apply(|function| {
        (function.metadata.namespace, function.metadata.name) = (Some("0".into()), Some("127".into()));
    });
    let app = App::start().await;
    let pod = FakePod::silent(app.address).object(|pod| {
        pod["metadata"]["namespace"] = "0".into();
        pod["metadata"]["labels"]["pilotlight.dev/function"] = "127".into();
    });
    world.activator.registry.apply_pod(&pod);
    let port = world.activator.https.unwrap().port();
    judge(&run(port, true).await, &[]);
    assert!(!app.take().messages.is_empty(), "nothing reached the app");
}
