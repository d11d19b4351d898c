//! Builds the programs for guests: static ones. The explicit target keeps RUSTFLAGS away from build scripts
//! and procedural macros.

use std::collections::HashMap;
use std::env;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cross::Cross;
use crate::child::{self, Waited};

const TARGET: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};
/// A guest has no C library.
const STATIC: &str = "-Ctarget-feature=+crt-static";

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
    let [pinwatch] = executables(&mut build, ["pinwatch"])?;
    Ok(pinwatch)
}

/// The same for another architecture.
pub fn pinwatch_on(cross: &Cross) -> Result<PathBuf> {
    eprintln!("xtask: building pinwatch");
    let mut build = cargo();
    build.args(["build", "--release", "--package", "pinwatch"]);
    cross.apply(build.args(["--bin", "pinwatch"]), STATIC);
    let [pinwatch] = made(&mut build, ["pinwatch"])?;
    Ok(pinwatch)
}

/// What only guests run: `--all-targets` leaves it out, also if it is named as well.
const GUEST_TARGETS: [&str; 4] = ["--test", "live", "--bench", "guest"];

/// The compiler that clippy's lints are part of. Crates of the workspace are compiled and linted at once: `cargo clippy`
/// would compile every dependency a second time.
const LINTING_COMPILER: [&str; 2] = ["RUSTC_WORKSPACE_WRAPPER", "clippy-driver"];

/// A `cargo test` for all crates but xtask. All of them have one profile, target and set of features, so that each crate
/// is compiled once for tests of both host and guests.
pub fn tests() -> Command {
    let mut cargo = cargo();
    let [wrapper, driver] = LINTING_COMPILER;
    cargo
        .args(["test", "--profile", "tests", "--target", TARGET])
        // The BPF programs exist for no target that this host has a library for.
        .args([
            "--workspace",
            "--exclude",
            "pinwatch-ebpf",
            "--exclude",
            "xtask",
        ])
        .args(["--features", "pinwatch/screens"])
        .env("RUSTFLAGS", STATIC)
        .env(wrapper, driver);
    cargo
}

/// A `cargo test` for xtask itself, in the profile in which its dependencies were compiled to run it.
pub fn own_tests() -> Command {
    let mut cargo = cargo();
    let [wrapper, driver] = LINTING_COMPILER;
    cargo
        .args(["test", "--package", "xtask"])
        .env(wrapper, driver);
    cargo
}

/// Fails if the compiler or clippy has a warning. Cargo prints the warnings of crates that are already compiled again.
pub fn lint() -> Result<()> {
    let [mut host, mut guest, mut own] = [tests(), tests(), own_tests()];
    host.arg("--all-targets");
    guest.args(GUEST_TARGETS);
    own.arg("--all-targets");
    let mut warnings = 0;
    for cargo in [&mut host, &mut guest, &mut own] {
        for message in messages(cargo.args(["--no-run", "--message-format", "json"]))? {
            let diagnostic = &message["message"];
            if diagnostic["level"] == "warning" {
                eprint!("{}", diagnostic["rendered"].as_str().unwrap_or_default());
                warnings += 1;
            }
        }
    }
    if warnings > 0 {
        bail!("{warnings} warnings, which are above");
    }
    Ok(())
}

/// `pinwatch`, the program with the tests that run in guests, and the one that measures there.
pub fn for_live_tests() -> Result<[PathBuf; 3]> {
    let mut build = tests();
    build.arg("--no-run").args(GUEST_TARGETS);
    made(&mut build, ["pinwatch", "live", "guest"])
}

/// `pinwatch` and the program with the tests that run in guests, for another architecture.
///
/// Without optimisation: nothing else uses this build, and the compiler takes longer than the guest.
pub fn for_live_tests_on(cross: &Cross) -> Result<[PathBuf; 2]> {
    let mut build = cargo();
    build
        .env("CARGO_PROFILE_TESTS_OPT_LEVEL", "0")
        .args(["test", "--no-run", "--profile", "tests"])
        .args(["--package", "pinwatch", "--test", "live"]);
    cross.apply(&mut build, STATIC);
    made(&mut build, ["pinwatch", "live"])
}

/// The program that measures in guests, and `pinwatch`, from one build.
pub fn bench_programs() -> Result<[PathBuf; 2]> {
    eprintln!("xtask: building pinwatch and its benchmarks");
    let mut build = cargo();
    build
        .args(["test", "--no-run", "--release", "--package", "pinwatch"])
        .args(["--bench", "guest"]);
    executables(&mut build, ["guest", "pinwatch"])
}

/// The program that measures user space.
pub fn bench_user() -> Result<PathBuf> {
    eprintln!("xtask: building the benchmarks of user space");
    let mut build = cargo();
    build
        .args(["test", "--no-run", "--release", "--package", "pinwatch"])
        .args(["--bench", "user"]);
    let [user] = executables(&mut build, ["user"])?;
    Ok(user)
}

/// The cargo that runs xtask, in the project's folder.
pub fn cargo() -> Command {
    let mut cargo = child::command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // Cargo sets these for xtask. Build scripts that depend on them (ring's does) would run again whenever the
    // user's cargo and xtask's take turns.
    for (name, _) in env::vars_os() {
        let of_xtask =
            |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(of_xtask) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs a static build and returns the paths of the executables made from these targets.
fn executables<const N: usize>(cargo: &mut Command, names: [&str; N]) -> Result<[PathBuf; N]> {
    made(
        cargo.args(["--target", TARGET]).env("RUSTFLAGS", STATIC),
        names,
    )
}

/// Runs a build and returns the paths of the executables made from these targets.
fn made<const N: usize>(cargo: &mut Command, names: [&str; N]) -> Result<[PathBuf; N]> {
    let mut made = HashMap::new();
    for message in messages(cargo.args(["--message-format", "json-render-diagnostics"]))? {
        if let (Some(name), Some(path)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) {
            made.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    let found: Vec<_> = names.iter().filter_map(|name| made.remove(*name)).collect();
    found
        .try_into()
        .ok()
        .with_context(|| format!("cargo did not build all of {}", names.join(", ")))
}

/// Runs cargo and returns its JSON messages.
fn messages(cargo: &mut Command) -> Result<Vec<Value>> {
    let mut build = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = build.stdout.take().context("no stdout")?;
    let messages = thread::spawn(move || io::read_to_string(stdout));
    if !matches!(child::wait(&mut build, None)?, Waited::Exited(status) if status.success()) {
        bail!("cargo failed: its messages are above");
    }
    let messages = messages.join().expect("the reader does not panic")?;
    Ok(messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}
