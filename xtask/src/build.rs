//! Builds what goes into a guest: static programs, for the target named explicitly so that
//! build scripts and procedural macros are not affected.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::{self, Waited};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The static release build of `pinwatch`.
pub fn pinwatch() -> Result<PathBuf> {
    let programs = executables(cargo().args([
        "build",
        "--release",
        "--package",
        "pinwatch",
        "--bin",
        "pinwatch",
    ]))?;
    programs
        .into_iter()
        .next()
        .context("cargo built no pinwatch")
}

/// The cargo that runs xtask, in the project's folder.
pub fn cargo() -> Command {
    let mut cargo = child::command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo
}

/// Runs a static build and returns the paths of the executables it made.
fn executables(cargo: &mut Command) -> Result<Vec<PathBuf>> {
    let mut build = cargo
        .args([
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = build.stdout.take().context("no stdout")?;
    let messages = std::thread::spawn(move || std::io::read_to_string(stdout));
    let waited = child::wait(&mut build, None)?;
    if !matches!(waited, Waited::Exited(status) if status.success()) {
        bail!("the build failed");
    }
    let messages = messages.join().expect("the reader does not panic")?;
    let executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    Ok(executables.collect())
}
