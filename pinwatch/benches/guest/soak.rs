//! Uses a daemon at random for some minutes: loads, kills, readers, recordings, restarts, neighbours. After each step
//! it waits until no pin is in flight, and checks what must always hold.

mod steps;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use nix::sys::signal::Signal;
use serde_json::json;

use super::live::daemon::{Daemon, Metrics};
use super::live::leftovers::{kprobe_events, wait_until_programs_are_freed};
use super::live::load::LoadLog;
use super::live::wait::{PATIENCE, wait_for, wait_until};
use super::live::watchers::Tail;
use super::neighbours::{Neighbour, NeighbourKind};

/// Growth of the daemon's memory that its documented buffers and the allocator can cause, in bytes.
const GROWTH: f64 = 16.0 * 1024.0 * 1024.0;
const RUNS: &str = "a daemon runs between steps";

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
