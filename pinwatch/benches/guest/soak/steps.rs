//! The steps of the soak.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::live::daemon::get;
use super::super::live::load::{load, spawn};
use super::super::live::wait::{PATIENCE, wait_until};
use super::super::live::watchers::Tail;
use super::super::neighbours::{Neighbour, NeighbourKind};
use super::{Followed, RUNS, Running, Soak};

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

/// Neighbours at a time.
const MOST_NEIGHBOURS: usize = 2;
const MOST_TAILS: usize = 3;
const RECORDING: &str = "/tmp/soak.pw";
const ADDRESS: &str = "127.0.0.1:10746";

impl Soak {
    pub fn load(&mut self) -> Result<()> {
        let args = LOADS[self.rng.usize(..LOADS.len())];
        let log = load(args);
        self.account(&log)
    }

    /// A load that is killed while it pins. [`Self::check_rest`] waits for its pins in flight.
    pub fn killed_load(&mut self) -> Result<()> {
        let mut child = spawn(&["--pages", "16", "--repeat", "1000000"]);
        let wanted =
            self.running().before.total("pinwatch_pins_total") + f64::from(self.rng.u8(1..));
        let daemon = self.daemon();
        let mut out = child.stdout.take().expect("piped");
        let drain = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        wait_until("some pins", PATIENCE, || {
            daemon.metrics().total("pinwatch_pins_total") >= wanted
        });
        child.kill().expect("it runs");
        child.wait()?;
        let _ = drain.join();
        Ok(())
    }

    pub fn neighbour(&mut self) -> Result<()> {
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
    pub fn tail(&mut self) -> Result<()> {
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
    pub fn end_tail(&mut self, n: usize) -> Result<()> {
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
    pub fn recording(&mut self) -> Result<()> {
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
    pub fn scrapes(&mut self) -> Result<()> {
        for _ in 0..self.rng.u8(1..20) {
            let path = ["/metrics", "/state", "/in-flight", "/readyz", "/"];
            match self.rng.usize(..path.len() + 1) {
                n if n < path.len() => ensure!(!get(path[n]).is_empty(), "{}", path[n]),
                _ => TcpStream::connect(ADDRESS)?.write_all(b"GET /metrics HTTP/1.1\r\nHost")?,
            }
        }
        Ok(())
    }

    pub fn reload(&mut self) -> Result<()> {
        self.daemon().signal(Signal::SIGHUP);
        ensure!(get("/readyz") == "attached\n", "/readyz");
        Ok(())
    }

    /// Pins are counted while the daemon does not run.
    pub fn suspended(&mut self) -> Result<()> {
        self.daemon().signal(Signal::SIGSTOP);
        let log = load(&["threads", "--pages", "1"]);
        self.daemon().signal(Signal::SIGCONT);
        self.account(&log)
    }

    pub fn killed_daemon(&mut self) -> Result<()> {
        let load = self
            .rng
            .bool()
            .then(|| spawn(&["--pages", "16", "--repeat", "30"]));
        self.restart(Signal::SIGKILL);
        load.map_or(Ok(()), wait_for_load)
    }

    pub fn stopped_daemon(&mut self) -> Result<()> {
        let (status, log) = self.restart(Signal::SIGTERM);
        ensure!(status.success(), "the daemon ended with {status}: {log}");
        Ok(())
    }

    /// Ends the daemon by a signal and starts another. Returns the old one's status and log.
    pub fn restart(&mut self, signal: Signal) -> (ExitStatus, String) {
        self.tails.clear();
        let Running { daemon, .. } = self.running.take().expect(RUNS);
        daemon.signal(signal);
        let ended = daemon.wait();
        self.running = Some(Running::start());
        ended
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
