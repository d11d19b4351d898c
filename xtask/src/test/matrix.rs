//! The guests of `cargo xtask test`: which live tests run on which stock kernel.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::counts::{Counter, Printer};
use crate::cache::Cache;
use crate::child::Interrupted;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{Flavour, Kernel};
use crate::generate::kernels_md::Row;
use crate::guest::qemu::Sinks;
use crate::guest::{Guest, Placed};

/// Guests at a time: under emulation each keeps a processor busy, but for the grace periods that
/// attaching waits for.
const GUESTS: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(1500);
/// Where the program with the live tests is in a guest.
pub const LIVE_TESTS: &str = "/usr/bin/pinwatch-live-tests";

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
const USER_SPACE: [&str; 6] = [
    "lifecycle::",
    "privileges::",
    "recordings::",
    "series::",
    "tail::",
    "watchers::",
];
const USER_SPACE_ON: [&str; 3] = ["5.10", "6.12", "7.3"];

/// Rows of docs/kernels.md, by kernel.
pub type Rows = BTreeMap<String, Vec<Row>>;

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

/// 6.1 needs the argument: 6.18 and later preempt kernel code by default.
const NEIGHBOUR: Run = Run {
    name: ", beside a neighbour",
    modules: &[],
    append: "",
    tests: &["--ignored", "neighbour::"],
    ..ALL_TESTS
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
    Run {
        name: ", preempt=full, beside a neighbour",
        series: Some(&["6.1"]),
        append: "preempt=full",
        ..NEIGHBOUR
    },
    Run {
        series: Some(&["6.18", "7.3"]),
        ..NEIGHBOUR
    },
];

pub struct Matrix<'a> {
    pub cache: &'a Cache,
    pub mirrors: &'a MirrorArgs,
    pub kernels: Vec<&'static Kernel>,
    /// Arguments for the live tests. Where there are some, only the guests that run all tests
    /// get them, and no other is booted.
    pub args: &'a [String],
}

impl Matrix<'_> {
    /// Fetches what the guests will need. What fails is left to them, who say so.
    pub fn fetch(&self) {
        for (_, run, kernel) in self.queue() {
            let _ = kernel.fetch(run.flavour, self.cache, self.mirrors);
        }
    }

    /// The guests, in the order in which they start: those that take longest first.
    fn queue(&self) -> VecDeque<(usize, &'static Run, &'static Kernel)> {
        let runs = if self.args.is_empty() {
            RUNS
        } else {
            &RUNS[..1]
        };
        let guests = runs.iter().enumerate().flat_map(|(number, run)| {
            let on = |kernel: &&Kernel| run.series.is_none_or(|on| on.contains(&kernel.series));
            let kernels: Vec<_> = self.kernels.iter().copied().filter(on).collect();
            kernels.into_iter().map(move |kernel| (number, run, kernel))
        });
        let mut guests: Vec<_> = guests.collect();
        guests
            .sort_by_key(|(number, _, kernel)| (*number, !USER_SPACE_ON.contains(&kernel.series)));
        guests.into()
    }

    /// Runs the live tests, among `files`, on each kernel, some guests at a time, and `last`
    /// beside the last ones.
    pub fn run(
        &self,
        files: &[Placed],
        counter: &Counter,
        last: impl FnOnce() -> Result<()> + Send,
    ) -> Result<Rows> {
        const NO_PANIC: &str = "nobody panics while holding it";
        let queue = Mutex::new(self.queue());
        let next = || queue.lock().expect(NO_PANIC).pop_front();
        let last = Mutex::new(Some(last));
        let rows = Mutex::new(BTreeMap::new());
        let work = || -> Result<()> {
            while let Some((number, run, kernel)) = next() {
                let apart = self.live_test(run, kernel, files, counter)?;
                let key = (kernel.series.to_owned(), number);
                rows.lock()
                    .expect(NO_PANIC)
                    .insert(key, apart.counts().rows);
            }
            let last = last.lock().expect(NO_PANIC).take();
            last.map_or(Ok(()), |last| last())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..GUESTS).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("a worker does not panic"))
        })?;
        let mut by_kernel = Rows::new();
        for ((series, _), of_run) in rows.into_inner().expect(NO_PANIC) {
            by_kernel.entry(series).or_default().extend(of_run);
        }
        Ok(by_kernel)
    }

    /// Runs live tests in one guest; what they counted is added, and returned.
    fn live_test(
        &self,
        run: &Run,
        kernel: &'static Kernel,
        files: &[Placed],
        counter: &Counter,
    ) -> Result<Counter> {
        let name = format!("live tests on {}{}", kernel.series, run.name);
        let prefix = format!("[{}{}] ", kernel.series, run.name);
        let apart = Counter::default();
        let printer = || Box::new(Printer::new(io::stdout(), &prefix, &apart));
        let mut command = [
            &[LIVE_TESTS, "--test-threads=1", "--show-output"],
            run.tests,
        ]
        .concat();
        if self.args.is_empty() && !USER_SPACE_ON.contains(&kernel.series) {
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
            command: command.chain(self.args.iter().cloned()).collect(),
        };
        let sinks = Sinks {
            out: printer(),
            err: printer(),
        };
        eprintln!("xtask: {name}");
        let started = Instant::now();
        let done = guest.run(self.cache, self.mirrors, sinks);
        let seconds = started.elapsed().as_secs();
        match &done {
            Ok(status) => eprintln!("xtask: {name}: status {status} after {seconds} s"),
            Err(error) if error.is::<Interrupted>() => return Err(Interrupted.into()),
            Err(error) => eprintln!("xtask: {name}: FAILED after {seconds} s: {error:#}"),
        }
        counter.add(&name, &apart, done.is_ok_and(|status| status == 0));
        Ok(apart)
    }
}
