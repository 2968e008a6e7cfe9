//! The binary itself, with flags and environment that cannot work: it ends at once, and says which flag it is and what to do.

use std::process::Command;

fn words(flags: &[&str], environment: &[(&str, &str)]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pilotlight-activator"))
        .args(flags)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{flags:?} {environment:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_mistake_names_its_flag_and_the_remedy() {
    let cases: [(&[&str], &[&str]); 13] = [
        (&["--threads", "0"], &["--threads is 0", "give at least 1"]),
        (&["--max-streams", "0"], &["--max-streams is 0", "give at least 1"]),
        (&["--max-streams", "many"], &["--max-streams", "many"]),
        (&["--http-port", "70000"], &["--http-port", "70000"]),
        (&["--max-header-bytes", "100"], &["--max-header-bytes is 100", "at least 8192"]),
        (&["--drain-delay-seconds", "60"], &["--drain-delay-max-seconds", "raise the first or lower the second"]),
        (&["--drain-timeout-seconds", "0"], &["--drain-timeout-seconds is 0", "give at least 1"]),
        (&["--tls-port", "8443x"], &["--tls-port", "8443x"]),
        (
            &["--tls-port", "8080", "--tls-certificate-dir", "/c"],
            &["--tls-port and --http-port are both 8080", "another"],
        ),
        (&["--admin-port", "8080"], &["--admin-port and --http-port are both 8080", "another"]),
        (&["--tls-handshake-timeout-seconds", "0"], &["--tls-handshake-timeout-seconds is 0", "give at least 1"]),
        (&["--tls-max-handshakes", "0"], &["--tls-max-handshakes is 0", "give at least 1"]),
        (&["--tls-certificate-dir", "/c,,/d"], &["--tls-certificate-dir"]),
    ];
    for (flags, wanted) in cases {
        let said = words(flags, &[]);
        for word in wanted {
            assert!(said.contains(word), "{flags:?} says: {said}");
        }
    }
}

#[test]
fn the_environment_is_checked_alike() {
    for (name, value, wanted) in [
        ("PILOTLIGHT_MAX_CONNECTIONS", "0", "--max-connections is 0"),
        ("PILOTLIGHT_TLS_PORT", "", "--tls-port"),
        ("PILOTLIGHT_LOG_JSON", "perhaps", "--log-json"),
        ("PILOTLIGHT_BIND", "localhost", "--bind"),
    ] {
        let said = words(&[], &[(name, value)]);
        assert!(said.contains(wanted), "{name}={value} says: {said}");
    }
}

#[test]
fn without_a_cluster_it_says_how_to_name_one() {
    let said = words(&[], &[("HOME", "/nonexistent")]);
    assert!(said.contains("KUBECONFIG"), "{said}");
}
