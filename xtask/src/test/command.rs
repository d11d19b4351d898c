//! `cargo xtask test`: everything that can be checked, on this host and on all stock kernels.
//!
//! Nothing is skipped in silence: what could not be run counts as failed.

use std::env;
use std::io;
use std::iter;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use super::counts::{Counter, Printer};
use super::matrix::{LIVE_TESTS, Matrix};
use crate::bench::regression;
use crate::build;
use crate::cache::Cache;
use crate::child::{self, Interrupted, Waited};
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, KERNELS, Kernel};
use crate::debian::programs::PROMETHEUS;
use crate::generate::kernels_md;
use crate::guest::Placed;
use crate::setup::{self, Purpose};

/// Run all tests: format, lints, unit tests, and the live tests on stock kernels in VMs
///
/// The last line says how many passed and failed.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test
  cargo xtask test --no-live
  cargo xtask test --kernel 6.12 --kernel 7.3 -- fresh_memory")]
pub struct TestArgs {
    /// Run the live tests on this kernel only (repeatable) [default: on all]
    #[arg(long = "kernel", value_name = "SERIES", value_parser = kernels::parse)]
    kernels: Vec<&'static Kernel>,
    /// Leave out the tests that need VMs
    #[arg(long)]
    no_live: bool,
    #[command(flatten)]
    mirrors: MirrorArgs,
    /// Arguments for the live tests, such as the name of one
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub fn main(args: &TestArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let counter = Counter::default();
    run(args, &counter)?;
    let counts = counter.counts();
    eprintln!("xtask: all of it took {} s", started.elapsed().as_secs());
    for name in &counts.names {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Fails only when the user interrupts; everything else is counted.
fn run(args: &TestArgs, counter: &Counter) -> Result<()> {
    let Some(cache) = step(counter, "setup", || {
        let cache = Cache::open()?;
        setup::ensure(&cache, Purpose::Tests)?;
        Ok(cache)
    })?
    else {
        return Ok(());
    };
    let matrix = Matrix {
        cache: &cache,
        mirrors: &args.mirrors,
        kernels: if args.kernels.is_empty() {
            KERNELS.iter().collect()
        } else {
            args.kernels.clone()
        },
        args: &args.args,
    };
    let built = thread::scope(|scope| {
        if !args.no_live {
            // Mostly waits for the network, while the rest keeps the processors busy.
            scope.spawn(|| matrix.fetch());
        }
        // Neither this nor the rest keeps two processors busy all the time.
        let built = (!args.no_live).then(|| {
            scope.spawn(|| step(counter, "building for the guests", build::with_live_tests))
        });
        for (name, mut check) in [
            ("fmt", fmt()),
            ("clippy", clippy()),
            ("clippy for the guests", clippy_for_guests()),
        ] {
            if step(counter, name, || child::run(&mut check))?.is_some() {
                counter.pass();
            }
        }
        step(counter, "unit tests", || {
            unit_tests(&cache, &args.mirrors, counter)
        })?;
        built.map_or(Ok(None), |built| built.join().expect("it does not panic"))
    })?;
    let Some([pinwatch, tests, bench]) = built else {
        return Ok(());
    };
    let placed = |host, guest: &str| Placed {
        host,
        guest: guest.to_owned(),
    };
    let files = [
        placed(pinwatch, "/usr/bin/pinwatch"),
        placed(tests, LIVE_TESTS),
    ];
    let everything = args.args.is_empty();
    let price = || {
        let floor = || regression::check(&cache, &args.mirrors, bench);
        if everything && step(counter, "the price of a pin", floor)?.is_some() {
            counter.pass();
        }
        Ok(())
    };
    let rows = matrix.run(&files, counter, price)?;
    // Only all kernels and all tests together make the whole table.
    if everything && args.kernels.is_empty() {
        step(counter, "docs/kernels.md", || kernels_md::update(&rows))?;
    }
    Ok(())
}

/// Does one thing and says how it went; a failure is printed, counted, and none.
fn step<T>(counter: &Counter, name: &str, act: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    eprintln!("xtask: {name}");
    let started = Instant::now();
    let done = act();
    let seconds = started.elapsed().as_secs();
    match done {
        Ok(made) => {
            eprintln!("xtask: {name}: done in {seconds} s");
            Ok(Some(made))
        }
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) => {
            eprintln!("xtask: {name}: FAILED after {seconds} s: {error:#}");
            counter.fail(name);
            Ok(None)
        }
    }
}

fn fmt() -> Command {
    let mut fmt = build::cargo();
    fmt.args(["fmt", "--all", "--check"]);
    fmt
}

/// All but the BPF programs, which exist for no target that this host has a library for.
fn clippy() -> Command {
    clippy_of(&["--workspace", "--exclude", "pinwatch-ebpf", "--all-targets"])
}

/// What only guests run, which is none of all targets.
fn clippy_for_guests() -> Command {
    clippy_of(&[
        "--package",
        "pinwatch",
        "--test",
        "live",
        "--bench",
        "guest",
    ])
}

fn clippy_of(targets: &[&str]) -> Command {
    let mut clippy = build::cargo();
    clippy.arg("clippy").args(targets).args([
        "--features",
        "pinwatch/screens",
        "--",
        "-D",
        "warnings",
    ]);
    clippy
}

fn unit_tests(cache: &Cache, mirrors: &MirrorArgs, counter: &Counter) -> Result<()> {
    let prometheus = PROMETHEUS.fetch(cache, mirrors)?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = iter::once(prometheus).chain(env::split_paths(&path));
    let mut tests = build::cargo()
        .env("PATH", env::join_paths(path)?)
        .args([
            "test",
            "--workspace",
            "--exclude",
            "pinwatch-ebpf",
            "--no-fail-fast",
            "--features",
            "pinwatch/screens",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let apart = Counter::default();
    let stdout = tests.stdout.take().context("no stdout")?;
    let relay = child::relay(stdout, Box::new(Printer::new(io::stdout(), "", &apart)));
    let waited = child::wait(&mut tests, None)?;
    let _ = relay.join();
    let succeeded = matches!(waited, Waited::Exited(status) if status.success());
    counter.add("unit tests", &apart, succeeded);
    Ok(())
}
