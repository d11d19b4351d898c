//! The daemon itself, from start to idling and serving: its memory, its wake-ups
//! and its processor time. And what its reader of the ring buffer takes.

use std::fs;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, poll};
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::Prefer;
use pinwatch_common::counter::Loss;
use pinwatch_common::listen::Listening;
use serde_json::json;

use super::hooks::attach_pinwatch;
use super::pins::{Pin, Pins, now};

const URL: &str = "http://127.0.0.1:10746/metrics";
/// By then all that the start left to do is done.
const SETTLE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(60);
const SCRAPES: u64 = 20;
const PINS: u64 = 100_000;
/// More events than the ring buffer holds.
const BURST: u64 = 8_000;
/// As the daemon's own reader: at intervals, and when the kernel says that the
/// buffer fills.
const POLL_MS: u8 = 100;

/// Prints one figure with its unit.
fn tell(what: &str, value: u64, unit: &str) {
    println!("{}", json!({ "what": what, "value": value, "unit": unit }));
}

pub fn agent() -> Result<()> {
    let daemon = Daemon::start()?;
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

    let mut bytes = 0;
    for _ in 0..SCRAPES {
        bytes = scrape()?.len() as u64;
    }
    let scraped = daemon.0.usage()?;
    tell("bytes of a scrape", bytes, "B");
    let each = (scraped.cpu_ns - pinned.cpu_ns) / SCRAPES;
    tell("processor time of a scrape", each, "ns");
    tell(
        "resident memory, after scrapes",
        scraped.resident_kib,
        "KiB",
    );
    followed(&daemon, &mut pins)?;
    drop(daemon);
    ring(&mut pins)?;
    race(&mut pins)
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

/// Pins as fast as they come, those that fail at once, against one reader that
/// runs at the same time: every one is read or counted as lost.
fn race(pins: &mut Pins) -> Result<()> {
    let mut live = attach_pinwatch(&Facts::gather(), Prefer::Auto)?;
    let mut events = live.take_events()?;
    events.listen(&Listening::ALL)?;
    let done = AtomicBool::new(false);
    let start = now();
    let (read, took) = thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<u64> {
            // SAFETY: the ring buffer owns its descriptor and keeps it.
            let ring = unsafe { BorrowedFd::borrow_raw(events.as_raw_fd()) };
            let mut read = 0;
            loop {
                let last = done.load(Ordering::Acquire);
                read += events.by_ref().count() as u64;
                if last {
                    return Ok(read);
                }
                poll(&mut [PollFd::new(ring, PollFlags::POLLIN)], POLL_MS)?;
            }
        });
        let made = (0..PINS).try_for_each(|_| pins.fail());
        let took = now() - start;
        done.store(true, Ordering::Release);
        made?;
        anyhow::Ok((reader.join().expect("the reader does not panic")?, took))
    })?;
    let lost = live.state().lost(Loss::RingFull);
    let all: u64 = read + lost;
    ensure!(all == PINS, "{read} events read and {lost} lost of {PINS}");
    tell(
        "events a second, one reader",
        read * 1_000_000_000 / took,
        "",
    );
    tell("of those, lost and counted", lost, "");
    Ok(())
}

/// Fills the ring buffer and beyond, then reads it.
fn ring(pins: &mut Pins) -> Result<()> {
    let mut live = attach_pinwatch(&Facts::gather(), Prefer::Auto)?;
    let mut events = live.take_events()?;
    events.listen(&Listening::ALL)?;
    for _ in 0..BURST {
        pins.time(Pin::One)?;
    }
    let start = now();
    let read = events.by_ref().count() as u64;
    let took = now() - start;
    let lost = live.state().lost(Loss::RingFull);
    ensure!(
        read + lost == BURST,
        "{read} events read and {lost} lost of {BURST}"
    );
    tell("events that the ring buffer holds", read, "");
    tell("time to read one of them", took / read, "ns");
    tell("events lost without being counted", BURST - read - lost, "");
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
    fn start() -> Result<Self> {
        let start = now();
        let child = Command::new("pinwatch")
            .arg("run")
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start pinwatch")?;
        let mut daemon = Self(Process(child));
        while !scrape().is_ok_and(|text| text.contains("pinwatch_kernel_info")) {
            ensure!(daemon.0.0.try_wait()?.is_none(), "the daemon ended");
            sleep(Duration::from_millis(1));
        }
        tell("start to first scrape", now() - start, "ns");
        Ok(daemon)
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
