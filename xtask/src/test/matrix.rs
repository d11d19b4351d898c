//! The guests of `cargo xtask test`: which live tests run on which stock kernel.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::boots::{Boot, EXTRAS, SOAK};
use super::counts::{Counter, Printer};
use super::only_on::{BETWEEN_TOO, ONLY_ON};
use super::steps::Steps;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::child::Interrupted;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{BETWEEN, Kernel};
use crate::generate::builds_md::BuildResult;
use crate::generate::kernels_md::ScenarioResult;
use crate::guest::qemu::Sinks;
use crate::guest::{Guest, Placed, fitting, quote, vfio};

/// Most guests at a time. Under emulation each keeps more than half of a processor busy, so that three use two cores
/// to the full.
const MOST_GUESTS: u64 = 3;
const TIMEOUT: Duration = Duration::from_secs(1500);
/// A guest of arm64 has taken 1,500 s beside other work.
const ARM64_TIMEOUT: Duration = Duration::from_secs(3000);
/// Where the program with the live tests is in a guest.
pub const LIVE_TESTS: &str = "/usr/bin/pinwatch-live-tests";
/// Where [`SOAK`] finds the program of `cargo xtask soak`.
pub const BENCH: &str = "/usr/bin/pinwatch-bench";

/// The arm64 kernel on which `cargo xtask test` runs [`ARM64_TESTS`].
pub const ARM64_SERIES: &str = "6.12";
pub const ARM64_TESTS: &str = "counts::";

/// Kernels whose guests take longest.
const LONGEST: [&str; 3] = ["6.12", "7.3", "7.2"];

/// The kernel whose guest can have more processors than it has.
const POSSIBLE_CPUS: (&str, [&str; 2]) = ("6.18", ["-smp", "2,maxcpus=16"]);

/// Rows of generated documents, by kernel.
#[derive(Default)]
pub struct Rows {
    /// Of docs/kernels.md.
    pub scenarios: BTreeMap<String, Vec<ScenarioResult>>,
    /// Of docs/builds.md.
    pub builds: BTreeMap<String, Vec<BuildResult>>,
}

/// Needs more memory than the other tests, and before they have used it.
const LARGE: &str = "apart::large";
const LARGE_ON: [&str; 2] = ["5.10", "6.12"];
const MEMORY_MIB: u32 = 2048;
const LARGE_MEMORY_MIB: u32 = 3072;
/// As much outside ZONE_MOVABLE as in the other guests: the scenario `shortage` pins all of it.
const LARGE_APPEND: &str = "movablecore=2048M";

/// The programs of a guest with live tests.
pub fn placed(pinwatch: PathBuf, tests: PathBuf) -> [Placed; 2] {
    let placed = |host, guest: &str| Placed {
        host,
        guest: guest.to_owned(),
    };
    [
        placed(pinwatch, "/usr/bin/pinwatch"),
        placed(tests, LIVE_TESTS),
    ]
}

/// What runs beside the last guests.
pub type Job<'a> = Box<dyn FnOnce() -> Result<()> + Send + 'a>;

pub struct Matrix<'a> {
    pub cache: &'a Cache,
    pub mirrors: &'a MirrorArgs,
    pub boots: &'a [Boot],
    pub kernels: Vec<&'static Kernel>,
    /// Arguments for the live tests. If there are any, only the guests that run all tests are booted.
    pub args: &'a [String],
}

impl Matrix<'_> {
    /// Fetches what the guests need. A failure is left to the guest, which reports it.
    pub fn fetch(&self) {
        for (_, boot, kernel) in self.queue() {
            let _ = kernel.fetch(boot.flavour, self.cache, self.mirrors);
        }
    }

    /// The guests in the order in which they start: the longest first.
    fn queue(&self) -> VecDeque<(usize, &Boot, &'static Kernel)> {
        let boots = self
            .boots
            .iter()
            .enumerate()
            .filter(|(_, boot)| self.args.is_empty() || boot.only.is_empty());
        let guests = boots.flat_map(|(number, boot)| {
            let on = |kernel: &&Kernel| {
                boot.arch == kernel.arch && boot.series.is_none_or(|on| on.contains(&kernel.series))
            };
            let kernels: Vec<_> = self.kernels.iter().copied().filter(on).collect();
            kernels
                .into_iter()
                .map(move |kernel| (number, boot, kernel))
        });
        let mut guests: Vec<_> = guests.collect();
        guests.sort_by_key(|(number, _, kernel)| (*number, !LONGEST.contains(&kernel.series)));
        guests.into()
    }

    /// Runs the live tests, among `files`, on each kernel, some guests at a time, and `last`, from its end, beside the
    /// last ones.
    pub fn run(
        &self,
        files: &[Placed],
        counter: &Counter,
        steps: &Steps<'_>,
        last: Vec<Job<'_>>,
    ) -> Result<Rows> {
        const NO_PANIC: &str = "no worker panics while it holds the lock";
        let queue = Mutex::new(self.queue());
        let next = || queue.lock().expect(NO_PANIC).pop_front();
        let last = Mutex::new(last);
        let next_of_last = || last.lock().expect(NO_PANIC).pop();
        let rows = Mutex::new(BTreeMap::new());
        let work = || -> Result<()> {
            while let Some((number, boot, kernel)) = next() {
                let separate = self.live_test(boot, kernel, files, counter, steps)?;
                let key = (kernel.series.to_owned(), number);
                rows.lock().expect(NO_PANIC).insert(key, separate.counts());
            }
            while let Some(job) = next_of_last() {
                job()?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let guests = fitting(LARGE_MEMORY_MIB).min(MOST_GUESTS);
            let workers: Vec<_> = (0..guests).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("a worker does not panic"))
        })?;
        let mut by_kernel = Rows::default();
        for ((series, _), counts) in rows.into_inner().expect(NO_PANIC) {
            let scenarios = by_kernel.scenarios.entry(series.clone()).or_default();
            scenarios.extend(counts.rows);
            let builds = by_kernel.builds.entry(series).or_default();
            builds.extend(counts.builds);
        }
        Ok(by_kernel)
    }

    /// Runs live tests in one guest. Their results are added to `counter`, and returned.
    fn live_test(
        &self,
        boot: &Boot,
        kernel: &'static Kernel,
        files: &[Placed],
        counter: &Counter,
        steps: &Steps<'_>,
    ) -> Result<Counter> {
        let name = format!("live tests on {}{}", kernel.series, boot.name);
        let prefix = format!("[{}{}] ", kernel.series, boot.name);
        let separate = Counter::default();
        let printer = || Box::new(Printer::new(io::stdout(), &prefix, &separate));
        let fetched = kernel.fetch(boot.flavour, self.cache, self.mirrors);
        // Most tests need a module.
        let few = fetched.is_ok_and(|kernel| !kernel.has_modules()) && self.args.is_empty();
        let args = match few {
            true => BETWEEN_TOO.map(str::to_owned).to_vec(),
            false => self.args.to_vec(),
        };
        let runs = invocations(boot, kernel.series, &args);
        let soaks = runs
            .iter()
            .any(|run| run.args.iter().any(|arg| arg == SOAK));
        let needed = |file: &&Placed| soaks || file.guest != BENCH;
        let script = script(&runs);
        let large = boot.only.is_empty() && LARGE_ON.contains(&kernel.series);
        let mut append = vec![boot.append.to_owned()];
        if large {
            append.push(LARGE_APPEND.to_owned());
        }
        let mut qemu_args = vfio::qemu_args(boot.arch).to_vec();
        if (boot.arch, kernel.series) == (Arch::X86_64, POSSIBLE_CPUS.0) {
            qemu_args.extend(POSSIBLE_CPUS.1);
        }
        let guest = Guest {
            kernel,
            own: None,
            flavour: boot.flavour,
            files: files.iter().filter(needed).cloned().collect(),
            modules: boot.modules.iter().map(|name| (*name).to_owned()).collect(),
            append,
            memory_mib: if large { LARGE_MEMORY_MIB } else { MEMORY_MIB },
            cpus: 2,
            forwards: Vec::new(),
            qemu_args: qemu_args.into_iter().map(str::to_owned).collect(),
            timeout: Some(match boot.arch {
                Arch::X86_64 => TIMEOUT,
                Arch::Aarch64 => ARM64_TIMEOUT,
            }),
            command: vec!["sh".to_owned(), "-c".to_owned(), script],
        };
        let sinks = Sinks {
            out: printer(),
            err: printer(),
        };
        eprintln!("xtask: {name}");
        let (_, done) = steps.time(&name, || guest.run(self.cache, self.mirrors, sinks));
        match &done {
            Ok(status) => eprintln!("xtask: {name}: done with status {status}"),
            Err(error) if error.is::<Interrupted>() => return Err(Interrupted.into()),
            Err(error) => eprintln!("xtask: {name}: FAILED: {error:#}"),
        }
        counter.add(&name, &separate, done.is_ok_and(|status| status == 0));
        Ok(separate)
    }
}

/// One run of the live tests: what the shell does before, and their arguments.
struct Invocation {
    prepare: &'static str,
    args: Vec<String>,
}

/// The runs of a boot, in order.
fn invocations(boot: &Boot, series: &str, args: &[String]) -> Vec<Invocation> {
    let ignored = |prepare, tests: &str| Invocation {
        prepare,
        args: vec!["--ignored".to_owned(), tests.to_owned()],
    };
    if !boot.only.is_empty() {
        return boot.only.iter().map(|only| ignored("true", only)).collect();
    }
    let mut all = args.to_vec();
    if args.is_empty() {
        let between = BETWEEN.iter().any(|kernel| kernel.series == series);
        let elsewhere = ONLY_ON.iter().filter(|(tests, on)| {
            !(on.contains(&series) || between && BETWEEN_TOO.contains(tests))
        });
        let skips = elsewhere.flat_map(|(tests, _)| ["--skip", tests]);
        all.extend(skips.map(str::to_owned));
    }
    let mut runs = vec![Invocation {
        prepare: "true",
        args: all,
    }];
    if args.is_empty() {
        if LARGE_ON.contains(&series) {
            runs.insert(0, ignored("true", LARGE));
        }
        let extras = EXTRAS
            .iter()
            .filter(|extra| extra.series.contains(&series) && extra.archs.contains(&boot.arch));
        runs.extend(extras.map(|extra| ignored(extra.prepare, extra.tests)));
    }
    runs
}

/// For the guest's shell: all runs, whatever comes of an earlier one. Fails if one fails.
fn script(runs: &[Invocation]) -> String {
    let lines = runs.iter().map(|Invocation { prepare, args }| {
        let command = [LIVE_TESTS, "--test-threads=1", "--show-output"];
        let mut command = command.map(str::to_owned).to_vec();
        command.extend(args.iter().cloned());
        format!("{prepare} && {} || status=1\n", quote(&command))
    });
    format!("status=0\n{}exit $status", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::boots::{ALL_TESTS, ARM64, SOFT_ROCE};

    fn scripts(boot: &Boot, series: &str) -> Vec<String> {
        let runs = invocations(boot, series, &[]);
        runs.iter()
            .map(|run| format!("{}: {}", run.prepare, run.args.join(" ")))
            .collect()
    }

    #[test]
    fn tests_that_need_a_guest_of_their_own_run_where_they_can() {
        assert_eq!(
            scripts(&SOFT_ROCE, "7.3"),
            [
                "true: --ignored apart::rdma",
                "true: --ignored first_pins::",
                "true: --ignored refusals::",
                "true: --ignored apart::suspend"
            ]
        );
        let of_6_12 = scripts(&ALL_TESTS, "6.12");
        assert!(of_6_12[1].contains("--skip tail::") && !of_6_12[1].contains("faults::"));
        assert_eq!(
            [&of_6_12[..1], &of_6_12[2..]].concat(),
            [
                "true: --ignored apart::large",
                "echo integrity >/sys/kernel/security/lockdown: --ignored apart::integrity",
                "echo confidentiality >/sys/kernel/security/lockdown: --ignored apart::lockdown"
            ]
        );
        let [all, neighbour] = &scripts(&ALL_TESTS, "6.1")[..] else {
            panic!("two runs");
        };
        assert!(all.contains("--skip tail::"), "{all}");
        let [all, neighbours] = &scripts(&ALL_TESTS, "7.3")[..] else {
            panic!("two runs");
        };
        assert!(all.contains("--skip faults::") && !all.contains("holds::"));
        assert_eq!(neighbours, "true: --ignored neighbour::");
        assert!(neighbour.starts_with("echo full >"), "{neighbour}");
        assert_eq!(
            scripts(&ALL_TESTS, "7.2")[1..],
            ["true: --ignored apart::soak"]
        );
        assert_eq!(scripts(&ARM64, "6.1").len(), 1);
        assert_eq!(scripts(&ARM64, "6.12").len(), 4);
    }

    #[test]
    fn arguments_run_nothing_else() {
        let args = ["fresh_memory".to_owned()];
        let runs = invocations(&ALL_TESTS, "6.12", &args);
        assert_eq!(runs.len(), 1);
        assert_eq!(
            script(&runs),
            "status=0\ntrue && '/usr/bin/pinwatch-live-tests' '--test-threads=1' '--show-output' \
             'fresh_memory' || status=1\nexit $status"
        );
    }
}
