//! The daemon itself, from start to idling and serving: its memory, its wake-ups
//! and its processor time.

use std::ffi::CString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::prctl;
use serde_json::json;

use super::pins::{Pin, Pins, now};
use super::ring;

const URL: &str = "http://127.0.0.1:10746/metrics";
/// By then all that the start left to do is done.
const SETTLE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(60);
const SCRAPES: u64 = 20;
const PINS: u64 = 100_000;
/// The parts of a start.
const START: [&str; 3] = [
    "until the kernel is known",
    "until programs are attached",
    "the scrape",
];
/// Names of threads, for some ten thousand series.
const NAMES: u32 = 3_300;

/// Prints one figure with its unit.
pub fn tell(what: &str, value: u64, unit: &str) {
    println!("{}", json!({ "what": what, "value": value, "unit": unit }));
}

pub fn agent() -> Result<()> {
    let (daemon, start) = Daemon::start(&[])?;
    tell("start to first scrape", start.iter().sum(), "ns");
    for (what, ns) in START.into_iter().zip(start) {
        tell(&format!("of it, {what}"), ns, "ns");
    }
    sleep(SETTLE);
    let rest = daemon.process.usage()?;
    sleep(IDLE);
    let idle = daemon.process.usage()?;
    tell(
        "wake-ups in an idle minute",
        idle.switches - rest.switches,
        "",
    );
    tell(
        "processor time of an idle minute",
        idle.cpu_ns - rest.cpu_ns,
        "ns",
    );
    tell("resident memory, idle", idle.resident_kib, "KiB");

    let mut pins = Pins::new()?;
    for _ in 0..PINS {
        pins.time(Pin::One)?;
    }
    let pinned = daemon.process.usage()?;
    let of = |what: &str| format!("{what} for {PINS} pins");
    tell(&of("wake-ups"), pinned.switches - idle.switches, "");
    tell(&of("processor time"), pinned.cpu_ns - idle.cpu_ns, "ns");

    scraped(&daemon, "")?;
    followed(&daemon, &mut pins)?;
    drop(daemon);
    crowded(&mut pins)?;
    ring::burst(&mut pins)?;
    ring::race(&mut pins)
}

/// What scrapes take, and what they leave.
fn scraped(daemon: &Daemon, when: &str) -> Result<()> {
    let of = |what: &str| format!("{what}{when}");
    let before = daemon.process.usage()?;
    let mut text = String::new();
    for _ in 0..SCRAPES {
        text = scrape()?;
    }
    let after = daemon.process.usage()?;
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    tell(&of("series of a scrape"), series as u64, "");
    tell(&of("bytes of a scrape"), text.len() as u64, "B");
    let each = (after.cpu_ns - before.cpu_ns) / SCRAPES;
    tell(&of("processor time of a scrape"), each, "ns");
    let what = of("resident memory, after scrapes");
    tell(&what, after.resident_kib, "KiB");
    Ok(())
}

/// A daemon with as many series as one should have at most.
fn crowded(pins: &mut Pins) -> Result<()> {
    let (daemon, _) = Daemon::start(&["--per", "process", "--max-series", "10000"])?;
    let mut last = String::new();
    for n in 0..NAMES {
        last = format!("pins-{n}");
        prctl::set_name(&CString::new(last.as_str())?)?;
        pins.time(Pin::One)?;
    }
    while !scrape()?.contains(&last) {
        sleep(Duration::from_millis(100));
    }
    scraped(&daemon, ", --per process")
}

/// The same pins while somebody follows the daemon.
fn followed(daemon: &Daemon, pins: &mut Pins) -> Result<()> {
    let tail = Command::new("pinwatch")
        .args(["tail", "--json", "--connect"])
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start pinwatch tail")?;
    let mut tail = Process(tail);
    while scrape()?.contains("pinwatch_events_sent_total 0\n") {
        ensure!(tail.0.try_wait()?.is_none(), "the tail ended");
        pins.time(Pin::One)?;
    }
    let before = [daemon.process.usage()?, tail.usage()?];
    for _ in 0..PINS {
        pins.time(Pin::One)?;
    }
    sleep(Duration::from_secs(1));
    let after = [daemon.process.usage()?, tail.usage()?];
    let of = |what: &str| format!("{what} for {PINS} pins, with a tail");
    let [own, its] = [0, 1].map(|n| after[n].cpu_ns - before[n].cpu_ns);
    tell(&of("processor time"), own, "ns");
    tell(&of("processor time of the tail"), its, "ns");
    let wakes = after[0].switches - before[0].switches;
    tell(&of("wake-ups"), wakes, "");
    Ok(())
}

/// Killed when dropped.
struct Process(Child);

/// `pinwatch run`.
struct Daemon {
    process: Process,
    said: BufReader<ChildStderr>,
}

/// What it has used since its start.
struct Usage {
    resident_kib: u64,
    /// of all threads: each is a wake-up
    switches: u64,
    cpu_ns: u64,
}

impl Daemon {
    /// And how long each part of it took. It says when it is ready: asking again and again would
    /// take the one processor from it.
    fn start(args: &[&str]) -> Result<(Self, [u64; START.len()])> {
        let start = now();
        let mut child = Command::new("pinwatch")
            .arg("run")
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start pinwatch")?;
        let said = BufReader::new(child.stderr.take().context("no stderr")?);
        let process = Process(child);
        let mut daemon = Self { process, said };
        let known = daemon.says(", era ")?;
        let attached = daemon.says("watching with")?;
        let text = scrape()?;
        ensure!(text.contains("pinwatch_kernel_info"), "an empty scrape");
        let took = [known - start, attached - known, now() - attached];
        Ok((daemon, took))
    }

    /// When it says something.
    fn says(&mut self, what: &str) -> Result<u64> {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            let more = self.said.read_line(&mut line)? > 0;
            ensure!(more, "the daemon ended");
        }
        Ok(now())
    }
}

impl Process {
    fn usage(&self) -> Result<Usage> {
        let dir = format!("/proc/{}", self.0.id());
        let status = fs::read_to_string(format!("{dir}/status"))?;
        let mut usage = Usage {
            resident_kib: field(&status, "VmRSS:")?,
            switches: 0,
            cpu_ns: 0,
        };
        for task in fs::read_dir(format!("{dir}/task"))? {
            let task = task?.path();
            let status = fs::read_to_string(task.join("status"))?;
            usage.switches += field(&status, "voluntary_ctxt_switches:")?;
            let schedstat = fs::read_to_string(task.join("schedstat"))?;
            let ns = schedstat.split(' ').next().context("an empty schedstat")?;
            usage.cpu_ns += ns.parse::<u64>()?;
        }
        Ok(usage)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn scrape() -> Result<String> {
    Ok(ureq::get(URL).call()?.body_mut().read_to_string()?)
}

fn field(text: &str, key: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    let digits = value.and_then(|value| value.split_whitespace().next());
    Ok(digits.with_context(|| format!("no {key}"))?.parse()?)
}
