//! Running other programs, with errors that show what they said.

use std::process::Stdio;

use tokio::process::Command;

use crate::error::{Error, Result};

/// Runs a program to its end and returns what it printed to stdout.
pub(crate) async fn run(program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    output_of(command).await
}

/// Runs a prepared command to its end and returns what it printed to stdout. Its stdin is empty.
pub(crate) async fn output_of(mut command: Command) -> Result<String> {
    let line = describe(command.as_std());
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| Error::Io { what: format!("starting `{line}`"), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::Command {
        command: line,
        status: output.status.to_string(),
        output: tail(&String::from_utf8_lossy(&said), 5),
    })
}

/// A command line as a person would type it.
pub(crate) fn describe(command: &std::process::Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// The last lines of a text that are not empty.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let kept: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    kept[kept.len().saturating_sub(lines)..].join("\n")
}

/// Whether a program of this name is in `PATH`, or in the directories of system programs.
pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Into::into))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_leaves_out_empty_lines() {
        assert_eq!(tail("a\n\nb\nc\n\n", 2), "b\nc");
        assert_eq!(tail("", 2), "");
    }

    #[tokio::test]
    async fn a_failure_shows_what_the_program_said() {
        let error = run("sh", &["-c", "echo first; echo why >&2; exit 3"]).await.unwrap_err().to_string();
        assert!(error.contains("why") && error.contains("exit status: 3"), "{error}");
    }
}
