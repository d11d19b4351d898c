//! The daemon itself, from start to idling and serving: its memory, its wake-ups
//! and its processor time.

use std::ffi::CString;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::Prefer;
use serde_json::json;

use super::hooks::attach_pinwatch;
use super::pins::{Pin, Pins, now};
use super::ring;

const URL: &str = "http://127.0.0.1:10746/metrics";
/// By then all that the start left to do is done.
const SETTLE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(60);
const SCRAPES: u64 = 20;
const PINS: u64 = 100_000;
/// Between two looks whether the daemon answers, which take the one processor from it.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Names of threads, for some ten thousand series.
const NAMES: u32 = 3_300;

/// Prints one figure with its unit.
pub fn tell(what: &str, value: u64, unit: &str) {
    println!("{}", json!({ "what": what, "value": value, "unit": unit }));
}

pub fn agent() -> Result<()> {
    let parts = start_in_parts()?;
    let (daemon, took) = Daemon::start(&[])?;
    tell("start to first scrape", took, "ns");
    for (what, ns) in parts {
        tell(what, ns, "ns");
    }
    sleep(SETTLE);
    let rest = daemon.0.usage()?;
    sleep(IDLE);
    let idle = daemon.0.usage()?;
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
    let pinned = daemon.0.usage()?;
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
    let before = daemon.0.usage()?;
    let mut text = String::new();
    for _ in 0..SCRAPES {
        text = scrape()?;
    }
    let after = daemon.0.usage()?;
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

/// What takes the time of a start, done by itself.
fn start_in_parts() -> Result<[(&'static str, u64); 3]> {
    let start = now();
    let facts = Facts::gather();
    let gathered = now();
    let kernel = || Ok::<_, nix::Error>(getrusage(UsageWho::RUSAGE_SELF)?.system_time());
    let before = kernel()?;
    let live = attach_pinwatch(&facts, Prefer::Auto)?;
    let attached = now();
    let in_kernel = kernel()? - before;
    drop(live);
    Ok([
        ("of it, looking at the kernel", gathered - start),
        ("of it, loading and attaching programs", attached - gathered),
        (
            "of that, in the kernel",
            in_kernel.num_microseconds() as u64 * 1000,
        ),
    ])
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
    let before = [daemon.0.usage()?, tail.usage()?];
    for _ in 0..PINS {
        pins.time(Pin::One)?;
    }
    sleep(Duration::from_secs(1));
    let after = [daemon.0.usage()?, tail.usage()?];
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
struct Daemon(Process);

/// What it has used since its start.
struct Usage {
    resident_kib: u64,
    /// of all threads: each is a wake-up
    switches: u64,
    cpu_ns: u64,
}

impl Daemon {
    /// And how long it took to its first whole scrape.
    fn start(args: &[&str]) -> Result<(Self, u64)> {
        let start = now();
        let child = Command::new("pinwatch")
            .arg("run")
            .args(args)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start pinwatch")?;
        let mut daemon = Self(Process(child));
        while !scrape().is_ok_and(|text| text.contains("pinwatch_kernel_info")) {
            ensure!(daemon.0.0.try_wait()?.is_none(), "the daemon ended");
            sleep(ASK_AGAIN);
        }
        let took = now() - start;
        Ok((daemon, took))
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
