//! Builds what goes into a guest: static programs, for the target named explicitly so that
//! build scripts and procedural macros are not affected.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::{self, Waited};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The static release build of `pinwatch`.
pub fn pinwatch() -> Result<PathBuf> {
    eprintln!("xtask: building pinwatch");
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--package",
        "pinwatch",
        "--bin",
        "pinwatch",
    ]);
    executable(&mut build, "pinwatch")
}

/// The program with the tests that run in guests.
pub fn live_tests() -> Result<PathBuf> {
    eprintln!("xtask: building the live tests");
    let mut build = cargo();
    build.args([
        "test",
        "--no-run",
        "--release",
        "--package",
        "pinwatch",
        "--test",
        "live",
        "--features",
        "live",
    ]);
    executable(&mut build, "live")
}

/// The cargo that runs xtask, in the project's folder.
pub fn cargo() -> Command {
    let mut cargo = child::command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo
}

/// Runs a static build and returns the path of the executable made from a target of that name.
fn executable(cargo: &mut Command, name: &str) -> Result<PathBuf> {
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
    let messages = thread::spawn(move || io::read_to_string(stdout));
    if !matches!(child::wait(&mut build, None)?, Waited::Exited(status) if status.success()) {
        bail!("the build of {name} failed");
    }
    let messages = messages.join().expect("the reader does not panic")?;
    let found = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let made = message["executable"].as_str()?;
        (message["target"]["name"] == name).then(|| made.into())
    });
    found.with_context(|| format!("cargo made no {name}"))
}
