//! Neighbours: programs that use BPF or probes beside pinwatch. Each is checked to make progress.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::live::load::load;
use super::live::maps::{MapUser, Operations};
use super::pins::PIN_PATH;

/// Under emulation bpftrace needs tens of seconds to attach.
const PATIENCE: Duration = Duration::from_secs(300);
const TICK: Duration = Duration::from_millis(50);
const ERRORS: &str = "/tmp/neighbour.log";
const SAMPLES: &str = "/tmp/neighbour.data";
/// The event of `perf probe`.
const EVENT: &str = "neighbour";
/// Address of the second pinwatch.
const SECOND: &str = "127.0.0.1:10747";

/// A neighbour, by its name on the command line of `cargo xtask bench reliability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NeighbourKind {
    None,
    Updates,
    Lookups,
    Bpftrace,
    Perf,
    Pinwatch,
}

/// A running neighbour.
pub struct Neighbour {
    process: Option<Process>,
    work: Work,
}

/// Source of a neighbour's progress, a count that grows with its work.
enum Work {
    None,
    Maps(MapUser),
    /// Returns that bpftrace has printed.
    Printed(Arc<AtomicU64>),
    /// Hits of the event of `perf probe`.
    Hits,
    /// Pins that the second pinwatch has counted.
    Pins,
}

impl Neighbour {
    /// Starts a neighbour. Returns once its progress grows.
    pub fn start(kind: NeighbourKind) -> Result<Self> {
        let (process, work) = match kind {
            NeighbourKind::None => (None, Work::None),
            NeighbourKind::Updates => (None, Work::Maps(MapUser::start(Operations::Updates))),
            NeighbourKind::Lookups => (None, Work::Maps(MapUser::start(Operations::LookUps))),
            NeighbourKind::Bpftrace => bpftrace()?,
            NeighbourKind::Perf => (Some(perf()?), Work::Hits),
            NeighbourKind::Pinwatch => (Some(pinwatch()?), Work::Pins),
        };
        let mut neighbour = Self { process, work };
        neighbour.check_works_since(0)?;
        Ok(neighbour)
    }

    pub fn progress(&self) -> Result<u64> {
        Ok(match &self.work {
            Work::None => 0,
            Work::Maps(user) => user.calls(),
            Work::Printed(returns) => returns.load(Ordering::Relaxed),
            Work::Hits => hits()?,
            Work::Pins => pins_of_second(),
        })
    }

    /// Waits until the progress exceeds an earlier one, and makes pins meanwhile. Fails if the neighbour
    /// ends, or after [`PATIENCE`].
    pub fn check_works_since(&mut self, before: u64) -> Result<()> {
        if matches!(self.work, Work::None) {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.works_since(before)? {
            ensure!(
                Instant::now() < deadline,
                "the neighbour makes no progress: {}",
                errors()
            );
            sleep(TICK);
        }
        Ok(())
    }

    fn works_since(&mut self, before: u64) -> Result<bool> {
        if let Some(process) = &mut self.process {
            process.check_runs()?;
        }
        let works = self.progress()? > before;
        if !works {
            load(&["--pages", "1"]);
        }
        Ok(works)
    }

    /// Ends the neighbour and removes its probes.
    pub fn stop(self) -> Result<()> {
        if let Some(process) = self.process {
            process.interrupt()?;
        }
        if matches!(self.work, Work::Hits) {
            let _ = fs::remove_file(SAMPLES);
            perf_probe("--del", &format!("probe:{EVENT}"))?;
        }
        Ok(())
    }
}

/// A child process. Killed when dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        let started = command.stderr(File::create(ERRORS)?).spawn();
        let name = command.get_program().display();
        Ok(Self(
            started.with_context(|| format!("cannot start {name}"))?,
        ))
    }

    fn check_runs(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the neighbour ended, {status}: {}", errors()),
        }
    }

    /// Ends the process as Ctrl-C does.
    fn interrupt(mut self) -> Result<()> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is still running only after an error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The neighbour's stderr.
fn errors() -> String {
    let said = fs::read_to_string(ERRORS).unwrap_or_default();
    said.trim().to_owned()
}

/// bpftrace with a latency histogram by kprobe and kretprobe.
fn bpftrace() -> Result<(Option<Process>, Work)> {
    const RETURNS: &str = "@returns";
    let script = format!(
        "kprobe:{PIN_PATH} {{ @start[tid] = nsecs; }} \
         kretprobe:{PIN_PATH} /@start[tid]/ {{ @ns = hist(nsecs - @start[tid]); \
         delete(@start[tid]); {RETURNS} = count(); }} \
         interval:ms:500 {{ print({RETURNS}); }}"
    );
    let mut bpftrace = Command::new("bpftrace");
    bpftrace
        .args(["-B", "line", "-e", &script])
        .stdout(Stdio::piped());
    let mut process = Process::start(&mut bpftrace)?;
    let out = process.0.stdout.take().context("no stdout")?;
    let returns = Arc::<AtomicU64>::default();
    let printed = Arc::clone(&returns);
    thread::spawn(move || last_count(out, RETURNS, &printed));
    Ok((Some(process), Work::Printed(returns)))
}

/// Stores the last count that bpftrace has printed for a map. Returns when bpftrace ends.
fn last_count(out: ChildStdout, map: &str, count: &AtomicU64) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        if let Some((name, value)) = line.split_once(": ")
            && name == map
            && let Ok(value) = value.parse()
        {
            count.store(value, Ordering::Relaxed);
        }
    }
}

fn perf() -> Result<Process> {
    perf_probe("--add", &format!("{EVENT}={PIN_PATH}"))?;
    let event = format!("probe:{EVENT}");
    let args = ["record", "--all-cpus", "--event", &event];
    Process::start(
        Command::new("perf")
            .args(args)
            .args(["--output", SAMPLES])
            .stdout(Stdio::null()),
    )
}

fn perf_probe(what: &str, event: &str) -> Result<()> {
    let output = Command::new("perf")
        .args(["probe", what, event])
        .output()
        .context("cannot start perf")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "perf probe: {}", said.trim());
    Ok(())
}

/// Number of hits of the `perf probe` event.
fn hits() -> Result<u64> {
    let profile = fs::read_to_string("/sys/kernel/tracing/kprobe_profile")?;
    let mut lines = profile.lines().map(str::split_whitespace);
    let hits = lines.find_map(|mut words| (words.next()? == EVENT).then(|| words.next())?);
    Ok(hits
        .context("kprobe_profile does not list the perf probe")?
        .parse()?)
}

fn pinwatch() -> Result<Process> {
    let args = ["run", "--web.listen-address", SECOND];
    Process::start(
        Command::new("pinwatch")
            .args(args)
            .args(["--socket", "/run/pinwatch/second.sock"]),
    )
}

/// Pins that the second pinwatch has counted; 0 until it answers.
fn pins_of_second() -> u64 {
    let answer = ureq::get(format!("http://{SECOND}/metrics")).call();
    let Ok(text) = answer.and_then(|mut answer| answer.body_mut().read_to_string()) else {
        return 0;
    };
    let pins = text
        .lines()
        .filter(|line| line.starts_with("pinwatch_pins_total"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    pins.sum()
}
