//! `cargo xtask test`: every check of the project, on this host and on all stock kernels.
//!
//! The programs for the guests are built first. While the guests run, this host builds and runs the
//! other tests. Everything is compiled once, by one profile for one target.

use std::env;
use std::ffi::OsString;
use std::io;
use std::iter;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result};

use super::boots::{ARM64, BOOTS};
use super::counts::{Counter, Printer};
use super::lab;
use super::matrix::{ARM64_SERIES, ARM64_TESTS, BENCH, Job, Matrix, placed};
use super::steps::Steps;
use super::two_hosts;
use crate::arch::Arch;
use crate::bench::regression;
use crate::build::{self, cross::Cross};
use crate::cache::Cache;
use crate::child::{self, Waited};
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, ARM64_KERNELS, KERNELS, Kernel};
use crate::debian::programs::PROMETHEUS;
use crate::generate::{builds_md, kernels_md};
use crate::guest::Placed;
use crate::setup::{self, Purpose};

/// Run all tests: format, lints, unit tests, and the live tests on stock kernels in VMs
///
/// Prints how long each step took. The last line counts the tests that passed, failed, and were
/// skipped because they do not apply to a kernel. A step that cannot run counts as failed.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test
  cargo xtask test --no-live
  cargo xtask test --kernel 6.12 --kernel 7.3 -- fresh_memory
  cargo xtask test --arch aarch64 --kernel 6.12 -- counts::
  cargo xtask test --kernels all -- counts::
  cargo xtask test --lab
  cargo xtask test --lab builds
  cargo xtask test --dashboards")]
pub struct TestArgs {
    /// Run the live tests on this kernel only (repeatable) [default: on all]
    #[arg(long = "kernel", value_name = "SERIES", value_parser = kernels::parse)]
    kernels: Vec<&'static Kernel>,
    /// Kernels of the live tests: those of the series, or also Debian's kernels between them
    #[arg(long = "kernels", value_enum, default_value_t, conflicts_with_all = ["kernels", "lab"])]
    set: KernelSet,
    /// Architecture of the guests; aarch64 runs the live tests only
    #[arg(long, value_enum, default_value_t)]
    arch: Arch,
    /// Leave out the tests that need VMs
    #[arg(long)]
    no_live: bool,
    /// Leave out the checks and tests that need no VM
    #[arg(long, conflicts_with = "no_live")]
    live_only: bool,
    /// Only build other kernels, and check what pinwatch counts there: those with other forms of the path, those with
    /// other configurations and compilers, or both. Not part of the other tests: the first run compiles for minutes
    #[arg(long, value_enum, value_name = "PART", num_args = 0..=1, default_missing_value = "all")]
    #[arg(conflicts_with_all = ["kernels", "no_live", "live_only", "args"])]
    lab: Option<lab::Part>,
    /// Only run every query of the dashboards on a Prometheus that scrapes two guests: one of x86-64, one of arm64
    #[arg(long, conflicts_with_all = ["kernels", "no_live", "live_only", "lab", "args"])]
    dashboards: bool,
    #[command(flatten)]
    mirrors: MirrorArgs,
    /// Arguments for the live tests, such as the name of one
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl TestArgs {
    /// All live tests on all kernels.
    fn runs_everything(&self) -> bool {
        self.kernels.is_empty() && self.args.is_empty()
    }
}

/// A set of Debian's kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum KernelSet {
    /// Those that pinwatch is made for
    #[default]
    Series,
    /// Those between the series, too
    All,
}

pub fn main(args: &TestArgs) -> Result<ExitCode> {
    let counter = Counter::default();
    let steps = Steps::new(&counter);
    run(args, &counter, &steps)?;
    let counts = counter.counts();
    println!("\n{}", steps.summary());
    for skipped in &counts.skipped {
        println!("skipped: {skipped}");
    }
    for failure in &counts.failures {
        println!("failed: {failure}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed,
        counts.failed,
        counts.skipped.len()
    );
    Ok(if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Fails only if the user interrupts; everything else is counted.
fn run(args: &TestArgs, counter: &Counter, steps: &Steps<'_>) -> Result<()> {
    let Some(cache) = steps.run("setup", || {
        let cache = Cache::open()?;
        let purpose = match args.lab {
            Some(_) => Purpose::All,
            None => Purpose::Tests,
        };
        setup::ensure(&cache, purpose)?;
        Ok(cache)
    })?
    else {
        return Ok(());
    };
    if let Some(part) = args.lab {
        return lab::run(part, &cache, &args.mirrors, counter, steps);
    }
    if args.dashboards {
        let path = path_with_prometheus(&cache, &args.mirrors)?;
        return two_hosts::run(&cache, &args.mirrors, &path, steps);
    }
    let matrix = Matrix {
        cache: &cache,
        mirrors: &args.mirrors,
        boots: BOOTS,
        kernels: match (&args.kernels[..], args.set) {
            ([], _) if args.arch == Arch::Aarch64 => ARM64_KERNELS.iter().collect(),
            ([], KernelSet::Series) => KERNELS.iter().collect(),
            ([], KernelSet::All) => kernels::all().collect(),
            (some, _) => on(some, args.arch)?,
        },
        args: &args.args,
    };
    if args.arch == Arch::Aarch64 {
        if let Some(files) = build_for_arm64(args, &cache, steps)? {
            matrix.run(&files, counter, steps, Vec::new())?;
        }
        return Ok(());
    }
    thread::scope(|scope| {
        let mut guests = None;
        let (send, receive) = mpsc::channel();
        if !args.no_live {
            // Waits for the network most of the time.
            scope.spawn(|| steps.time("fetching kernels", || matrix.fetch()));
            let built = steps.run("building for the guests", build::for_live_tests)?;
            guests = built
                .map(|built| scope.spawn(|| live(args, &matrix, built, receive, counter, steps)));
        }
        let host = if args.live_only {
            Ok(())
        } else {
            host(args, &cache, counter, steps)
        };
        if args.runs_everything()
            && guests.is_some()
            && host.is_ok()
            && let Some(files) = build_for_arm64(args, &cache, steps)?
        {
            // Nobody waits if the guests have failed.
            let _ = send.send(files);
        }
        drop(send);
        let live = guests.map_or(Ok(()), |guests| guests.join().expect("it does not panic"));
        host.and(live)
    })
}

/// The kernels of an architecture with the same series.
fn on(kernels: &[&'static Kernel], arch: Arch) -> Result<Vec<&'static Kernel>> {
    kernels.iter().map(|kernel| kernel.on(arch)).collect()
}

/// The files of arm64 guests. None if the build failed, which is then counted.
fn build_for_arm64(
    args: &TestArgs,
    cache: &Cache,
    steps: &Steps<'_>,
) -> Result<Option<[Placed; 2]>> {
    let built = steps.run("building for arm64 guests", || {
        setup::ensure_arch(Arch::Aarch64, Purpose::Tests)?;
        build::for_live_tests_on(&Cross::find(Arch::Aarch64, cache, &args.mirrors)?)
    })?;
    Ok(built.map(|[pinwatch, live]| placed(pinwatch, live)))
}

/// The checks and tests that need no guest.
fn host(args: &TestArgs, cache: &Cache, counter: &Counter, steps: &Steps<'_>) -> Result<()> {
    steps.check("format", || {
        child::run(build::cargo().args(["fmt", "--all", "--check"]))
    })?;
    steps.run("building for this host", || {
        child::run(build::tests().arg("--no-run"))?;
        child::run(build::own_tests().arg("--no-run"))
    })?;
    steps.run("tests on this host", || {
        host_tests(
            build::tests().env("PATH", path_with_prometheus(cache, &args.mirrors)?),
            counter,
        )?;
        host_tests(&mut build::own_tests(), counter)
    })?;
    steps.check("clippy", build::lint)
}

fn host_tests(cargo: &mut Command, counter: &Counter) -> Result<()> {
    let mut tests = cargo
        .arg("--no-fail-fast")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let separate = Counter::default();
    let stdout = tests.stdout.take().context("cargo has no stdout")?;
    let printer = Printer::untimed(io::stdout(), &separate);
    let relay = child::relay(stdout, Box::new(printer));
    let waited = child::wait(&mut tests, None)?;
    let _ = relay.join();
    let succeeded = matches!(waited, Waited::Exited(status) if status.success());
    counter.add("tests on this host", &separate, succeeded);
    Ok(())
}

fn path_with_prometheus(cache: &Cache, mirrors: &MirrorArgs) -> Result<OsString> {
    let prometheus = PROMETHEUS.fetch(cache, mirrors)?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = iter::once(prometheus).chain(env::split_paths(&path));
    Ok(env::join_paths(path)?)
}

/// Runs the live tests. Beside the last guests it measures the price of a pin, and runs an arm64 guest with the files
/// that `arm64` brings.
fn live(
    args: &TestArgs,
    matrix: &Matrix<'_>,
    [pinwatch, tests, bench]: [PathBuf; 3],
    arm64: Receiver<[Placed; 2]>,
    counter: &Counter,
    steps: &Steps<'_>,
) -> Result<()> {
    let mut files = placed(pinwatch, tests).to_vec();
    files.push(Placed {
        host: bench.clone(),
        guest: BENCH.to_owned(),
    });
    let mut last: Vec<Job<'_>> = Vec::new();
    if args.args.is_empty() {
        last.push(Box::new(|| {
            steps.check("the price of a pin", || {
                regression::check(matrix.cache, matrix.mirrors, bench)
            })
        }));
    }
    if args.runs_everything() {
        last.push(Box::new(move || {
            let matrix = Matrix {
                boots: &[ARM64],
                kernels: on(&[kernels::parse(ARM64_SERIES)?], Arch::Aarch64)?,
                args: &[ARM64_TESTS.to_owned()],
                ..*matrix
            };
            // Nothing comes if the build failed.
            let Ok(files) = arm64.recv() else {
                return Ok(());
            };
            matrix.run(&files, counter, steps, Vec::new()).map(drop)
        }));
    }
    let rows = matrix.run(&files, counter, steps, last)?;
    // Only all kernels and all tests together make the whole table.
    if args.runs_everything() {
        steps.run("docs/kernels.md", || kernels_md::update(&rows.scenarios))?;
    }
    builds_md::update(rows.builds)?;
    Ok(())
}
