//! Uses a daemon at random for some minutes: loads, kills, readers, recordings, restarts, neighbours. After each step
//! it waits until no pin is in flight, and checks what must always hold.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::live::daemon::{Daemon, Metrics, get};
use super::live::leftovers::{kprobe_events, wait_until_programs_are_freed};
use super::live::load::{LoadLog, load, spawn};
use super::live::wait::{PATIENCE, wait_for, wait_until};
use super::live::watchers::Tail;
use super::neighbours::{Neighbour, NeighbourKind};

/// Loads whose number of pins is known.
const LOADS: &[&[&str]] = &[
    &["threads"],
    &["threads", "--pages", "1"],
    &["--pages", "16", "--repeat", "50"],
    &["touched", "--repeat", "3"],
    &["untouched"],
    &["memfd"],
    &["read-only"],
    &["held-one"],
    &["held-all"],
    &["fork"],
];

/// Growth of the daemon's memory that its documented buffers and the allocator can cause, in bytes.
const GROWTH: f64 = 16.0 * 1024.0 * 1024.0;
/// Neighbours at a time.
const MOST_NEIGHBOURS: usize = 2;
const MOST_TAILS: usize = 3;
const RECORDING: &str = "/tmp/soak.pw";
const RUNS: &str = "a daemon runs between steps";
const ADDRESS: &str = "127.0.0.1:10746";

type Step = fn(&mut Soak) -> Result<()>;

/// The steps, each as often as it is chosen in a hundred.
const STEPS: &[(&str, u32, Step)] = &[
    ("load", 40, Soak::load),
    ("load killed", 10, Soak::killed_load),
    ("neighbour started or stopped", 10, Soak::neighbour),
    ("tail started or stopped", 14, Soak::tail),
    ("recording", 6, Soak::recording),
    ("scrapes", 8, Soak::scrapes),
    ("reload", 2, Soak::reload),
    ("daemon suspended", 3, Soak::suspended),
    ("daemon killed", 4, Soak::killed_daemon),
    ("daemon stopped", 3, Soak::stopped_daemon),
];

struct Soak {
    rng: Rng,
    kinds: Vec<NeighbourKind>,
    /// `None` only while the daemon restarts.
    running: Option<Running>,
    neighbours: Vec<(NeighbourKind, Neighbour)>,
    tails: Vec<Followed>,
    done: Totals,
}

/// A daemon since its start.
struct Running {
    daemon: Daemon,
    /// Metrics at the end of the previous step.
    before: Metrics,
    /// Resident memory after the first step.
    memory: Option<f64>,
    descriptors: usize,
}

/// A tail, and the daemon's count of pins when it started.
struct Followed {
    tail: Tail,
    from: f64,
    stopped: bool,
}

#[derive(Default)]
struct Totals {
    steps: BTreeMap<&'static str, u64>,
    made: u64,
    seen: u64,
    lost: u64,
    events: u64,
    events_lost: u64,
    /// Growth of the daemon that grew most.
    grown: f64,
}

/// Prints the totals as one JSON object. Fails at the first thing that does not hold.
pub fn soak(minutes: u32, seed: u64, neighbours: &[NeighbourKind]) -> Result<()> {
    let started = Instant::now();
    let until = started + Duration::from_secs(60 * u64::from(minutes));
    let mut soak = Soak {
        rng: Rng::with_seed(seed),
        kinds: neighbours.to_vec(),
        running: Some(Running::start()),
        neighbours: Vec::new(),
        tails: Vec::new(),
        done: Totals::default(),
    };
    let mut minute = 0;
    while Instant::now() < until {
        let name = soak.step().with_context(|| format!("seed {seed}"))?;
        let passed = started.elapsed().as_secs() / 60;
        if passed > minute {
            minute = passed;
            let Totals {
                made, seen, lost, ..
            } = soak.done;
            eprintln!(
                "soak: {passed} of {minutes} minutes, {made} pins made, {seen} seen, {lost} counted as lost; last step: {name}"
            );
        }
    }
    let done = soak.finish().with_context(|| format!("seed {seed}"))?;
    println!(
        "{}",
        json!({
            "minutes": minutes,
            "seed": seed,
            "steps": done.steps,
            "made": done.made,
            "seen": done.seen,
            "lost": done.lost,
            "events": done.events,
            "events_lost": done.events_lost,
            "grown_bytes": done.grown as u64,
        })
    );
    Ok(())
}

impl Running {
    fn start() -> Self {
        let daemon = Daemon::start(&[]);
        let before = daemon.metrics();
        // The connection of the scrape may still be one of them.
        let descriptors = descriptors(&daemon);
        Self {
            daemon,
            before,
            memory: None,
            descriptors,
        }
    }
}

fn descriptors(daemon: &Daemon) -> usize {
    let folder = fs::read_dir(format!("/proc/{}/fd", daemon.pid()));
    folder.expect("procfs").count()
}

impl Soak {
    /// One step and its checks. Returns its name.
    fn step(&mut self) -> Result<&'static str> {
        let mut choice = self.rng.u32(0..100);
        let (name, _, act) = STEPS
            .iter()
            .find(|(_, weight, _)| {
                let chosen = choice < *weight;
                choice = choice.saturating_sub(*weight);
                chosen
            })
            .context("the weights add up to 100")?;
        *self.done.steps.entry(name).or_default() += 1;
        act(self).with_context(|| format!("step {name:?}"))?;
        self.check_rest()
            .with_context(|| format!("after the step {name:?}"))?;
        Ok(name)
    }

    fn daemon(&self) -> &Daemon {
        &self.running().daemon
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect(RUNS)
    }

    /// What must hold between steps.
    fn check_rest(&mut self) -> Result<()> {
        let running = self.running.as_mut().expect(RUNS);
        let metrics = wait_for("the end of all pins in flight", PATIENCE, || {
            let metrics = running.daemon.metrics();
            (metrics.total("pinwatch_pins_in_flight") == 0.0).then_some(metrics)
        });
        let memory = metrics.total("process_resident_memory_bytes");
        let grown = memory - *running.memory.get_or_insert(memory);
        self.done.grown = self.done.grown.max(grown);
        ensure!(grown < GROWTH, "the daemon grew by {grown} bytes");
        running.before = metrics;
        if self.tails.is_empty() {
            wait_until("the daemon to close its connections", PATIENCE, || {
                descriptors(&running.daemon) <= running.descriptors
            });
        }
        Ok(())
    }

    /// Compares a load's log with the growth of the counts.
    fn account(&mut self, log: &LoadLog) -> Result<()> {
        let daemon = self.daemon();
        wait_until("the end of all pins in flight", PATIENCE, || {
            daemon.metrics().total("pinwatch_pins_in_flight") == 0.0
        });
        let grown = daemon.metrics().since(&self.running().before);
        let seen = grown.total("pinwatch_pins_total") as u64;
        let lost = grown.total("pinwatch_pins_lost_total") as u64;
        let possible = log.possible_pins();
        ensure!(
            possible.contains(&(seen + lost)),
            "{seen} pins seen, {lost} counted as lost, {possible:?} made: {}",
            log.summary
        );
        self.done.made += seen + lost;
        self.done.seen += seen;
        self.done.lost += lost;
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        let args = LOADS[self.rng.usize(..LOADS.len())];
        let log = load(args);
        self.account(&log)
    }

    /// A load that is killed while it pins. [`Self::check_rest`] waits for its pins in flight.
    fn killed_load(&mut self) -> Result<()> {
        let mut child = spawn(&["--pages", "16", "--repeat", "1000000"]);
        let wanted =
            self.running().before.total("pinwatch_pins_total") + f64::from(self.rng.u8(1..));
        let daemon = self.daemon();
        let mut out = child.stdout.take().context("no stdout")?;
        let drain = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        wait_until("some pins", PATIENCE, || {
            daemon.metrics().total("pinwatch_pins_total") >= wanted
        });
        child.kill()?;
        child.wait()?;
        let _ = drain.join();
        Ok(())
    }

    fn neighbour(&mut self) -> Result<()> {
        let full = self.neighbours.len() == MOST_NEIGHBOURS;
        if full || (!self.neighbours.is_empty() && self.rng.bool()) {
            let n = self.rng.usize(..self.neighbours.len());
            return self.neighbours.swap_remove(n).1.stop();
        }
        let running = |kind: &NeighbourKind| self.neighbours.iter().any(|(other, _)| other == kind);
        let left: Vec<_> = self
            .kinds
            .iter()
            .copied()
            .filter(|kind| !running(kind))
            .collect();
        let Some(kind) = self.rng.choice(left) else {
            return Ok(());
        };
        let neighbour = Neighbour::start(kind).with_context(|| format!("{kind:?}"))?;
        self.neighbours.push((kind, neighbour));
        Ok(())
    }

    /// Starts a tail, ends one, or suspends one.
    fn tail(&mut self) -> Result<()> {
        if self.tails.len() < MOST_TAILS && self.rng.bool() {
            let tail = Tail::start(&["--connect"]);
            // Nothing pins between two steps.
            let from = self.daemon().metrics().total("pinwatch_pins_total");
            self.tails.push(Followed {
                tail,
                from,
                stopped: false,
            });
            return Ok(());
        }
        let Some(n) = self.rng.choice(0..self.tails.len()) else {
            return Ok(());
        };
        match self.rng.u8(..3) {
            0 => {
                self.tails[n].tail.signal(Signal::SIGSTOP);
                self.tails[n].stopped = true;
            }
            // A killed reader must not cost the daemon anything.
            1 => drop(self.tails.swap_remove(n)),
            _ => self.end_tail(n)?,
        }
        Ok(())
    }

    /// Each pin of its time is one of its lines, or counted as lost.
    fn end_tail(&mut self, n: usize) -> Result<()> {
        let Followed {
            tail,
            from,
            stopped,
        } = self.tails.swap_remove(n);
        if stopped {
            tail.signal(Signal::SIGCONT);
        }
        let made = self.daemon().metrics().total("pinwatch_pins_total") - from;
        let seen = tail.finish();
        let (lines, lost) = (seen.pins.len() as u64, seen.lost());
        ensure!(
            (lines + lost) as f64 == made,
            "a tail printed {lines} pins and lost {lost}, of {made}"
        );
        self.done.events += lines;
        self.done.events_lost += lost;
        Ok(())
    }

    /// A recording that is ended by SIGINT must be whole. One that is ended by SIGKILL must be readable.
    fn recording(&mut self) -> Result<()> {
        let killed = self.rng.bool();
        let mut recorder = record()?;
        let log = load(&["--pages", "16", "--repeat", "20"]);
        self.account(&log)?;
        let signal = if killed {
            Signal::SIGKILL
        } else {
            Signal::SIGINT
        };
        kill(Pid::from_raw(recorder.id() as i32), signal)?;
        let status = recorder.wait()?;
        ensure!(killed || status.success(), "record: {status}");
        let report = Command::new("pinwatch")
            .args(["report", RECORDING])
            .output()?;
        let code = report.status.code().context("report was killed")?;
        let said = String::from_utf8_lossy(&report.stderr).into_owned();
        ensure!(
            code == 0 || (killed && code <= 2),
            "report exits with {code}: {said}"
        );
        Ok(fs::remove_file(RECORDING)?)
    }

    /// Scrapes, and connections that are given up in the middle of a request.
    fn scrapes(&mut self) -> Result<()> {
        for _ in 0..self.rng.u8(1..20) {
            let path = ["/metrics", "/state", "/in-flight", "/readyz", "/"];
            match self.rng.usize(..path.len() + 1) {
                n if n < path.len() => ensure!(!get(path[n]).is_empty(), "{}", path[n]),
                _ => TcpStream::connect(ADDRESS)?.write_all(b"GET /metrics HTTP/1.1\r\nHost")?,
            }
        }
        Ok(())
    }

    fn reload(&mut self) -> Result<()> {
        self.daemon().signal(Signal::SIGHUP);
        ensure!(get("/readyz") == "attached\n", "/readyz");
        Ok(())
    }

    /// Pins are counted while the daemon does not run.
    fn suspended(&mut self) -> Result<()> {
        self.daemon().signal(Signal::SIGSTOP);
        let log = load(&["threads", "--pages", "1"]);
        self.daemon().signal(Signal::SIGCONT);
        self.account(&log)
    }

    fn killed_daemon(&mut self) -> Result<()> {
        let load = self
            .rng
            .bool()
            .then(|| spawn(&["--pages", "16", "--repeat", "30"]));
        self.restart(Signal::SIGKILL);
        load.map_or(Ok(()), wait_for_load)
    }

    fn stopped_daemon(&mut self) -> Result<()> {
        let (status, log) = self.restart(Signal::SIGTERM);
        ensure!(status.success(), "the daemon ended with {status}: {log}");
        Ok(())
    }

    /// Ends the daemon by a signal and starts another. Returns the old one's status and log.
    fn restart(&mut self, signal: Signal) -> (ExitStatus, String) {
        self.tails.clear();
        let Running { daemon, .. } = self.running.take().expect(RUNS);
        daemon.signal(signal);
        let ended = daemon.wait();
        self.running = Some(Running::start());
        ended
    }

    /// Ends everything, and checks that nothing is left in the kernel.
    fn finish(mut self) -> Result<Totals> {
        while !self.tails.is_empty() {
            self.end_tail(0)?;
        }
        for (_, neighbour) in self.neighbours.drain(..) {
            neighbour.stop()?;
        }
        self.check_rest()?;
        let Running { daemon, .. } = self.running.take().expect(RUNS);
        daemon.signal(Signal::SIGTERM);
        let (status, log) = daemon.wait();
        ensure!(status.success(), "the daemon ended with {status}: {log}");
        wait_until_programs_are_freed();
        let events = kprobe_events();
        if !events.is_empty() {
            bail!("kprobe_events still has {events}");
        }
        Ok(self.done)
    }
}

fn wait_for_load(mut child: Child) -> Result<()> {
    let mut out = child.stdout.take().context("no stdout")?;
    std::io::copy(&mut out, &mut std::io::sink())?;
    ensure!(child.wait()?.success(), "the load failed");
    Ok(())
}

/// A recorder that gets every pin.
fn record() -> Result<Child> {
    let recorder = Command::new("pinwatch")
        .args(["record", "--connect", "-o", RECORDING])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // The file begins when the daemon has answered.
    wait_until("the recording's header", PATIENCE, || {
        fs::metadata(RECORDING).is_ok_and(|file| file.len() > 0)
    });
    Ok(recorder)
}
