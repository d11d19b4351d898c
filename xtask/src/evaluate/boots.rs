//! Boots that record: their order, and what runs in each.

use std::collections::VecDeque;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::comparison::Comparison;
use super::side::Side;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::Flavour;
use crate::guest::collected::collect;
use crate::guest::qemu::{Accel, Tcg};
use crate::guest::{Guest, Placed, fitting, vfio};

const TIMEOUT: Duration = Duration::from_secs(1800);
/// Time of the guest, per repetition of the load, after which a recording ends though the load has not: a pin of a
/// patched kernel may never return. Without such a pin, the load takes 13 s where the clock counts instructions.
const LIMIT_COUNTING: Duration = Duration::from_secs(60);
pub const LIMIT: Duration = Duration::from_secs(600);
const PINWATCH: &str = "/usr/bin/pinwatch";
const MEMORY_MIB: u32 = 2048;

/// What runs in each boot.
#[derive(Clone, Copy)]
pub struct Load {
    /// Repetitions of the load.
    pub repeat: u32,
    /// Whether the isolation of each page is hooked too.
    pub isolation: bool,
    pub cpus: u32,
}

/// Everything that a boot needs.
pub struct Boots<'a> {
    pub load: Load,
    /// The folder for the recordings.
    pub output: &'a Path,
    pub mirrors: &'a MirrorArgs,
    pub cache: &'a Cache,
    pub pinwatch: PathBuf,
    pub clock: Accel,
}

impl Boots<'_> {
    /// Whether the guests' clock counts instructions.
    pub fn counting(&self) -> bool {
        self.clock == Accel::Tcg(Tcg::Counting)
    }

    /// Guests that run at a time. With KVM their times would depend on each other. An emulated guest uses as many
    /// processors of the host as it has, and its times say little anyway; counts of instructions are independent.
    fn side_by_side(&self) -> u64 {
        let processors = available_parallelism().map_or(1, |processors| processors.get() as u64);
        match self.clock {
            Accel::Kvm => 1,
            Accel::Tcg(_) => {
                let fitting = fitting(MEMORY_MIB).min(processors / u64::from(self.load.cpus));
                fitting.clamp(1, 2)
            }
        }
    }

    /// Records the sides in boots of their own.
    pub fn record(&self, sides: &[Side], runs: RangeInclusive<u32>) -> Result<()> {
        let queue: Mutex<VecDeque<_>> = Mutex::new(order(sides.len(), runs).into());
        let next = || queue.lock().expect("no worker panics").pop_front();
        let work = || {
            while let Some((side, run)) = next() {
                if let Err(error) = self.record_one(&sides[side], run) {
                    queue.lock().expect("no worker panics").clear();
                    return Err(error);
                }
            }
            Ok(())
        };
        let workers = self.side_by_side();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let mut ends = workers.into_iter();
            ends.try_for_each(|worker| worker.join().expect("a worker does not panic"))
        })
    }

    /// The recording of a side in one of its boots.
    pub fn file(&self, side: &str, run: u32) -> PathBuf {
        self.output.join(format!("{side}-{run}.pw"))
    }

    /// A comparison of two sides, each with some of its boots.
    ///
    /// `accepted` names differences of the recordings, as `pinwatch compare --allow` does.
    pub fn between(
        &self,
        accepted: &[String],
        base: (&Side, &[u32]),
        new: (&Side, &[u32]),
    ) -> Comparison<'_> {
        let files = |(side, boots): (&Side, &[u32])| {
            let files = boots.iter().map(|boot| self.file(side.name, *boot));
            files.collect()
        };
        // The functions differ between kernels, and so do the hooks.
        let mut allowed = vec!["hooks"];
        if base.0.append != new.0.append {
            allowed.push("command_line");
        }
        allowed.extend(accepted.iter().map(String::as_str));
        let allow = |aspect| ["--allow".to_owned(), str::to_owned(aspect)];
        let mut args: Vec<_> = allowed.into_iter().flat_map(allow).collect();
        if self.counting() {
            args.extend(["--run-spread", "0"].map(str::to_owned));
        }
        Comparison {
            pinwatch: &self.pinwatch,
            base: files(base),
            new: files(new),
            args,
        }
    }

    fn record_one(&self, side: &Side, run: u32) -> Result<()> {
        let name = side.name;
        eprintln!("xtask: {name}: boot {run}, a minute or two");
        let started = Instant::now();
        let limit = if self.counting() {
            LIMIT_COUNTING
        } else {
            LIMIT
        };
        let mut guest = guest(self.load, limit * self.load.repeat, side, &self.pinwatch);
        guest.append.extend(clock_arguments(self.clock));
        let boot = |sinks| guest.run_by(self.clock, self.cache, self.mirrors, sinks);
        let [out, said] = collect(boot).with_context(|| format!("{name}: the recording failed"))?;
        let text: String = out.split_whitespace().collect();
        let recording = STANDARD
            .decode(text)
            .with_context(|| format!("{name}: the guest printed no recording"))?;
        let path = self.file(name, run);
        fs::write(&path, recording).with_context(|| path.display().to_string())?;
        eprintln!(
            "xtask: {name}: boot {run} took {} s: {}",
            started.elapsed().as_secs(),
            last_line(&said)
        );
        Ok(())
    }
}

/// Sides and runs in the order A B, B A, A B, ...: a host that becomes slower or faster meanwhile hits all
/// sides alike.
fn order(sides: usize, runs: RangeInclusive<u32>) -> Vec<(usize, u32)> {
    let mut order = Vec::new();
    for run in runs {
        let mut round: Vec<_> = (0..sides).map(|side| (side, run)).collect();
        if run % 2 == 0 {
            round.reverse();
        }
        order.extend(round);
    }
    order
}

/// A guest that records the load and prints the recording.
pub fn guest(load: Load, limit: Duration, side: &Side, pinwatch: &Path) -> Guest {
    let isolation = if load.isolation {
        "--with isolate_lru"
    } else {
        ""
    };
    // All sides need the same kind of hook, and kprobes miss nothing here.
    let command = format!(
        "{give_to_vfio}\n{PINWATCH} record --compress --attach kprobe {isolation} -o /tmp/recording --duration {}s -- \
         {PINWATCH} load --evaluation --repeat {} >/dev/null && base64 /tmp/recording",
        limit.as_secs(),
        load.repeat,
        give_to_vfio = vfio::give(),
    );
    let mut append = vec!["norandmaps".to_owned(), vfio::APPEND.to_owned()];
    append.extend(side.append.iter().cloned());
    Guest {
        kernel: side.kernel,
        own: side.own.clone(),
        flavour: Flavour::Cloud,
        files: vec![Placed {
            host: pinwatch.to_owned(),
            guest: PINWATCH.to_owned(),
        }],
        modules: vfio::modules(side.own.as_ref()),
        append,
        memory_mib: MEMORY_MIB,
        cpus: load.cpus,
        forwards: Vec::new(),
        qemu_args: vfio::qemu_args(side.kernel.arch)
            .map(str::to_owned)
            .to_vec(),
        timeout: Some(TIMEOUT),
        command: ["sh", "-c", &command].map(str::to_owned).to_vec(),
    }
}

/// Of a guest's command line. On a busy host the kernel's watchdog takes an emulated TSC for unstable in some boots,
/// and the guest then changes its clock.
fn clock_arguments(accel: Accel) -> Option<String> {
    match accel {
        Accel::Tcg(Tcg::OneThread | Tcg::Threads) => {
            Some("clocksource=tsc tsc=reliable".to_owned())
        }
        Accel::Kvm | Accel::Tcg(Tcg::Counting) => None,
    }
}

/// The last state of a line that a terminal would show.
fn last_line(text: &str) -> &str {
    let line = text.lines().last().unwrap_or_default();
    let line = line.rsplit(['\r', '\n']).next().unwrap_or_default();
    line.trim_start_matches("\x1b[K")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_at_being_first() {
        assert_eq!(
            order(2, 1..=3),
            [(0, 1), (1, 1), (1, 2), (0, 2), (0, 3), (1, 3)]
        );
        // A later part continues the same order.
        assert_eq!(order(2, 2..=2), [(1, 2), (0, 2)]);
        assert_eq!(order(3, 2..=2), [(2, 2), (1, 2), (0, 2)]);
    }

    #[test]
    fn an_emulated_clock_that_shows_time_stays_the_same() {
        let arguments = clock_arguments(Accel::Tcg(Tcg::OneThread)).unwrap();
        assert!(arguments.contains("tsc=reliable"), "{arguments}");
        assert_eq!(clock_arguments(Accel::Tcg(Tcg::Counting)), None);
    }

    #[test]
    fn progress_is_reduced_to_its_last_state() {
        assert_eq!(last_line("a\n1 pin\r\x1b[K2 pins"), "2 pins");
        assert_eq!(last_line(""), "");
    }
}
