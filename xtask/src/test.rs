//! `cargo xtask test`: everything that can be checked, on this host and on all stock kernels.
//!
//! Nothing is skipped in silence: what could not be run counts as failed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::apt::MirrorArgs;
use crate::bench::floor;
use crate::build;
use crate::cache::Cache;
use crate::child::{self, Interrupted, Waited};
use crate::guest::{Guest, Placed};
use crate::kernels::{self, Flavour, KERNELS, Kernel};
use crate::kernels_md::{self, Row};
use crate::qemu::Sinks;
use crate::setup::{self, Purpose};
use crate::tally::{Printer, Tally};

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

/// Guests at a time: under emulation each keeps a processor busy, but for the grace periods that
/// attaching waits for.
const GUESTS: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(1500);
/// Where the program with the live tests is in a guest.
const LIVE_TESTS: &str = "/usr/bin/pinwatch-live-tests";

/// For O_DIRECT reads from a block device, and for pins through VFIO.
const MODULES: [&str; 3] = ["loop", "vfio_pci", "vfio_iommu_type1"];
/// An IOMMU that VFIO accepts, and a device behind it that nothing else wants.
const QEMU_ARGS: [&str; 4] = [
    "-device",
    "intel-iommu,intremap=on,caching-mode=on",
    "-device",
    "edu,addr=5",
];

/// Tests of what user space makes of what kernels give: on the oldest kernel, the newest, and one
/// between.
const USER_SPACE: [&str; 5] = [
    "privileges::",
    "recordings::",
    "series::",
    "tail::",
    "watchers::",
];
const USER_SPACE_ON: [&str; 3] = ["5.10", "6.12", "7.3"];

/// Rows of docs/kernels.md by kernel, and by run on it.
type Rows = Mutex<BTreeMap<(String, usize), Vec<Row>>>;

/// A guest for live tests.
#[derive(Clone, Copy)]
struct Run {
    /// What sets it apart from the one that runs all tests.
    name: &'static str,
    /// On these kernels only.
    series: Option<&'static [&'static str]>,
    flavour: Flavour,
    modules: &'static [&'static str],
    append: &'static str,
    memory_mib: u32,
    /// Which tests, where it is not all.
    tests: &'static [&'static str],
}

const ALL_TESTS: Run = Run {
    name: "",
    series: None,
    flavour: Flavour::Cloud,
    modules: &MODULES,
    append: "intel_iommu=on",
    memory_mib: 2048,
    tests: &[],
};

const SOFT_ROCE: Run = Run {
    name: ", full flavour",
    series: Some(&["7.3"]),
    flavour: Flavour::Full,
    modules: &["rdma_rxe", "ib_uverbs"],
    append: "",
    memory_mib: 2048,
    tests: &["--ignored", "apart::rdma"],
};

/// In the order in which they start.
const RUNS: &[Run] = &[
    ALL_TESTS,
    Run {
        // Soft RoCE asks for its checksum by name there.
        modules: &["rdma_rxe", "ib_uverbs", "crc32_generic"],
        series: Some(&["6.12"]),
        ..SOFT_ROCE
    },
    SOFT_ROCE,
    Run {
        name: ", 3 GiB",
        series: Some(&["5.10", "6.12"]),
        memory_mib: 3072,
        tests: &["--ignored", "apart::large"],
        ..ALL_TESTS
    },
    Run {
        name: ", locked down",
        series: Some(&["5.10", "6.12"]),
        modules: &[],
        append: "lockdown=confidentiality",
        tests: &["--ignored", "apart::lockdown"],
        ..ALL_TESTS
    },
];

pub fn main(args: &TestArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let tally = Tally::default();
    run(args, &tally)?;
    let counts = tally.counts();
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
fn run(args: &TestArgs, tally: &Tally) -> Result<()> {
    let Some(cache) = step(tally, "setup", || {
        let cache = Cache::open()?;
        setup::ensure(&cache, Purpose::Tests)?;
        Ok(cache)
    })?
    else {
        return Ok(());
    };
    let built = thread::scope(|scope| {
        if !args.no_live {
            // Mostly waits for the network, while the rest keeps the processors busy.
            scope.spawn(|| fetch_kernels(args, &cache));
        }
        for (name, mut check) in [
            ("fmt", fmt()),
            ("clippy", clippy()),
            ("clippy for the guests", clippy_for_guests()),
        ] {
            if step(tally, name, || child::run(&mut check))?.is_some() {
                tally.pass();
            }
        }
        step(tally, "unit tests", || unit_tests(tally))?;
        if args.no_live {
            return Ok(None);
        }
        step(tally, "building for the guests", build::with_live_tests)
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
    let rows = Mutex::default();
    live_tests(args, &cache, &files, tally, &rows)?;
    if args.args.is_empty() {
        let floor = || floor::check(&cache, &args.mirrors, bench);
        if step(tally, "the price of a pin", floor)?.is_some() {
            tally.pass();
        }
    }
    // Only all kernels and all tests together make the whole table.
    if args.kernels.is_empty() && args.args.is_empty() {
        let by_run = rows.into_inner().expect("nobody panics while adding rows");
        let mut rows: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for ((series, _), of_run) in by_run {
            rows.entry(series).or_default().extend(of_run);
        }
        step(tally, "docs/kernels.md", || kernels_md::update(&rows))?;
    }
    Ok(())
}

/// Does one thing and says how it went; a failure is printed, counted, and none.
fn step<T>(tally: &Tally, name: &str, act: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
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
            tally.fail(name);
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

fn unit_tests(tally: &Tally) -> Result<()> {
    let mut tests = build::cargo()
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
    let apart = Tally::default();
    let stdout = tests.stdout.take().context("no stdout")?;
    let relay = child::relay(stdout, Box::new(Printer::new(io::stdout(), "", &apart)));
    let waited = child::wait(&mut tests, None)?;
    let _ = relay.join();
    let succeeded = matches!(waited, Waited::Exited(status) if status.success());
    tally.add("unit tests", &apart, succeeded);
    Ok(())
}

/// Fetches what the guests will need. What fails is left to them, who say so.
fn fetch_kernels(args: &TestArgs, cache: &Cache) {
    for (_, run, kernel) in queue(args) {
        let _ = kernel.fetch(run.flavour, cache, &args.mirrors);
    }
}

/// The guests, in the order in which they start.
fn queue(args: &TestArgs) -> VecDeque<(usize, &'static Run, &'static Kernel)> {
    let wanted = if args.kernels.is_empty() {
        KERNELS.iter().collect()
    } else {
        args.kernels.clone()
    };
    let runs = if args.args.is_empty() {
        RUNS
    } else {
        &RUNS[..1]
    };
    let guests = runs.iter().enumerate().flat_map(|(number, run)| {
        let on = |kernel: &&Kernel| run.series.is_none_or(|on| on.contains(&kernel.series));
        let kernels: Vec<_> = wanted.iter().copied().filter(on).collect();
        kernels.into_iter().map(move |kernel| (number, run, kernel))
    });
    guests.collect()
}

/// Runs the live tests on each kernel, some guests at a time. Arguments for the tests are for
/// the guests that run all of them.
fn live_tests(
    args: &TestArgs,
    cache: &Cache,
    files: &[Placed],
    tally: &Tally,
    rows: &Rows,
) -> Result<()> {
    let queue = Mutex::new(queue(args));
    let next = || {
        queue
            .lock()
            .expect("nobody panics while taking one")
            .pop_front()
    };
    let work = || -> Result<()> {
        while let Some((number, run, kernel)) = next() {
            let apart = live_test(args, cache, files, run, kernel, tally)?;
            rows.lock()
                .expect("nobody panics while adding rows")
                .insert((kernel.series.to_owned(), number), apart.counts().rows);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..GUESTS).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })
}

/// Runs live tests in one guest; what they counted is added, and returned.
fn live_test(
    args: &TestArgs,
    cache: &Cache,
    files: &[Placed],
    run: &Run,
    kernel: &'static Kernel,
    tally: &Tally,
) -> Result<Tally> {
    let name = format!("live tests on {}{}", kernel.series, run.name);
    let prefix = format!("[{}{}] ", kernel.series, run.name);
    let apart = Tally::default();
    let printer = || Box::new(Printer::new(io::stdout(), &prefix, &apart));
    let mut command = [
        &[LIVE_TESTS, "--test-threads=1", "--show-output"],
        run.tests,
    ]
    .concat();
    if args.args.is_empty() && !USER_SPACE_ON.contains(&kernel.series) {
        command.extend(USER_SPACE.iter().flat_map(|tests| ["--skip", tests]));
    }
    let command = command.into_iter().map(str::to_owned);
    let guest = Guest {
        kernel,
        own: None,
        flavour: run.flavour,
        files: files.to_vec(),
        modules: run.modules.iter().map(|name| (*name).to_owned()).collect(),
        append: vec![run.append.to_owned()],
        memory_mib: run.memory_mib,
        cpus: 2,
        forwards: Vec::new(),
        qemu_args: QEMU_ARGS.map(str::to_owned).to_vec(),
        timeout: Some(TIMEOUT),
        command: command.chain(args.args.iter().cloned()).collect(),
    };
    let sinks = Sinks {
        out: printer(),
        err: printer(),
    };
    eprintln!("xtask: {name}");
    let started = Instant::now();
    let done = guest.run(cache, &args.mirrors, sinks);
    let seconds = started.elapsed().as_secs();
    match &done {
        Ok(status) => eprintln!("xtask: {name}: status {status} after {seconds} s"),
        Err(error) if error.is::<Interrupted>() => return Err(Interrupted.into()),
        Err(error) => eprintln!("xtask: {name}: FAILED after {seconds} s: {error:#}"),
    }
    tally.add(&name, &apart, done.is_ok_and(|status| status == 0));
    Ok(apart)
}
