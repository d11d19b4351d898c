//! Memory, wake-ups and processor time of the daemon: at start, idle, with pins, scrapes and followers.

use std::ffi::CString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::prctl;

use super::pins::{PinKind, Pins, now, print_figure};
use super::ring;

const URL: &str = "http://127.0.0.1:10746/metrics";
/// Pause after which the daemon has finished the deferred work of its start.
const SETTLE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(60);
const SCRAPES: u64 = 20;
const PINS: u64 = 100_000;
/// The parts of a start, in order.
const START: [&str; 3] = [
    "reading the kernel",
    "attaching the programs",
    "answering the scrape",
];
/// Number of thread names, which make about 10,000 series.
const NAMES: u32 = 3_300;

/// A part of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// From the start of a command to its first output.
    Start,
    /// A daemon without pins, with pins, with scrapes and with a follower.
    Daemon,
    /// Scrapes with many series.
    Series,
    /// The ring buffer and its reader.
    Ring,
}

/// Prints the figures of the daemon and of the ring buffer, by part.
pub fn agent(part: Part) -> Result<()> {
    let mut pins = Pins::new()?;
    match part {
        Part::Start => started(),
        Part::Daemon => used(&mut pins),
        Part::Series => scraped_with_many_series(&mut pins),
        Part::Ring => {
            ring::burst(&mut pins)?;
            ring::race(&mut pins)
        }
    }
}

/// Measures the start of a daemon, and a `pinwatch check`.
fn started() -> Result<()> {
    let (_daemon, start) = Daemon::start(&[])?;
    print_figure("start to first scrape", start.iter().sum(), "ns");
    for (what, ns) in START.into_iter().zip(start) {
        print_figure(&format!("start: {what}"), ns, "ns");
    }
    let start = now();
    Command::new("pinwatch")
        .arg("check")
        .stdout(Stdio::null())
        .status()
        .context("cannot start pinwatch check")?;
    print_figure("a pinwatch check", now() - start, "ns");
    Ok(())
}

/// Measures a daemon that is idle, then sees pins, is scraped and followed.
fn used(pins: &mut Pins) -> Result<()> {
    let (daemon, _) = Daemon::start(&[])?;
    sleep(SETTLE);
    let rest = daemon.process.usage()?;
    sleep(IDLE);
    let idle = daemon.process.usage()?;
    print_figure(
        "wake-ups in an idle minute",
        idle.switches - rest.switches,
        "",
    );
    print_figure(
        "processor time of an idle minute",
        idle.cpu_ns - rest.cpu_ns,
        "ns",
    );
    print_figure("resident memory, idle", idle.resident_kib, "KiB");
    for _ in 0..PINS {
        pins.time(PinKind::One)?;
    }
    let pinned = daemon.process.usage()?;
    let of = |what: &str| format!("{what} for {PINS} pins");
    print_figure(&of("wake-ups"), pinned.switches - idle.switches, "");
    print_figure(&of("processor time"), pinned.cpu_ns - idle.cpu_ns, "ns");

    scraped(&daemon, "")?;
    followed(&daemon, pins)
}

/// Prints size and cost of a scrape, and the memory of the daemon afterwards.
fn scraped(daemon: &Daemon, when: &str) -> Result<()> {
    let of = |what: &str| format!("{what}{when}");
    let before = daemon.process.usage()?;
    let mut text = String::new();
    for _ in 0..SCRAPES {
        text = scrape()?;
    }
    let after = daemon.process.usage()?;
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    print_figure(&of("series of a scrape"), series as u64, "");
    print_figure(&of("bytes of a scrape"), text.len() as u64, "B");
    let each = (after.cpu_ns - before.cpu_ns) / SCRAPES;
    print_figure(&of("processor time of a scrape"), each, "ns");
    let what = of("resident memory, after scrapes");
    print_figure(&what, after.resident_kib, "KiB");
    Ok(())
}

/// Prints size and cost of a scrape that is compressed, as Prometheus asks for it.
fn scraped_compressed(daemon: &Daemon, when: &str) -> Result<()> {
    let before = daemon.process.usage()?;
    let mut bytes = 0;
    for _ in 0..SCRAPES {
        let answer = ureq::get(URL).header("Accept-Encoding", "gzip").call()?;
        bytes = answer.into_body().read_to_vec()?.len() as u64;
    }
    let each = (daemon.process.usage()?.cpu_ns - before.cpu_ns) / SCRAPES;
    print_figure(&format!("bytes of a compressed scrape{when}"), bytes, "B");
    let what = format!("processor time of a compressed scrape{when}");
    print_figure(&what, each, "ns");
    Ok(())
}

/// Measures scrapes of a daemon that has the largest recommended number of series, plain and as Prometheus asks for
/// them.
fn scraped_with_many_series(pins: &mut Pins) -> Result<()> {
    let (daemon, _) = Daemon::start(&["--per", "process", "--max-series", "10000"])?;
    let mut last = String::new();
    for n in 0..NAMES {
        last = format!("pins-{n}");
        prctl::set_name(&CString::new(last.as_str())?)?;
        pins.time(PinKind::One)?;
    }
    while !scrape()?.contains(&last) {
        sleep(Duration::from_millis(100));
    }
    scraped(&daemon, ", --per process")?;
    scraped_compressed(&daemon, ", --per process")
}

/// Measures pins while a `pinwatch tail` follows the daemon.
fn followed(daemon: &Daemon, pins: &mut Pins) -> Result<()> {
    let tail = Command::new("pinwatch")
        .args(["tail", "--json", "--connect"])
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start pinwatch tail")?;
    let mut tail = Process(tail);
    while scrape()?.contains("pinwatch_events_sent_total 0\n") {
        ensure!(tail.0.try_wait()?.is_none(), "pinwatch tail ended early");
        pins.time(PinKind::One)?;
    }
    let before = [daemon.process.usage()?, tail.usage()?];
    for _ in 0..PINS {
        pins.time(PinKind::One)?;
    }
    sleep(Duration::from_secs(1));
    let after = [daemon.process.usage()?, tail.usage()?];
    let of = |what: &str| format!("{what} for {PINS} pins, with a tail");
    let [own, its] = [0, 1].map(|n| after[n].cpu_ns - before[n].cpu_ns);
    print_figure(&of("processor time"), own, "ns");
    print_figure(&of("processor time of the tail"), its, "ns");
    let wakes = after[0].switches - before[0].switches;
    print_figure(&of("wake-ups"), wakes, "");
    Ok(())
}

/// A child process. Killed when dropped.
struct Process(Child);

/// A running `pinwatch run`.
struct Daemon {
    process: Process,
    said: BufReader<ChildStderr>,
}

/// Resources that a process has used since its start.
struct Usage {
    resident_kib: u64,
    /// Voluntary context switches of all threads: each is a wake-up.
    switches: u64,
    cpu_ns: u64,
}

impl Daemon {
    /// Starts the daemon. Returns it with the durations of the [`START`] parts, in nanoseconds. Reads its
    /// log, because polling would take the only processor from the daemon.
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
        let known = daemon.wait_for_log(", era ")?;
        let attached = daemon.wait_for_log("watching with")?;
        let text = scrape()?;
        ensure!(
            text.contains("pinwatch_kernel_info"),
            "the scrape lacks pinwatch_kernel_info"
        );
        let took = [known - start, attached - known, now() - attached];
        Ok((daemon, took))
    }

    /// Waits for a log line that contains `what`. Returns the time.
    fn wait_for_log(&mut self, what: &str) -> Result<u64> {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            let more = self.said.read_line(&mut line)? > 0;
            ensure!(more, "the daemon ended before it logged {what:?}");
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
        // It may have ended already.
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
    Ok(digits
        .with_context(|| format!("/proc has no {key}"))?
        .parse()?)
}
