//! SIGKILL for threads inside pins, and for the daemon during a load.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use super::daemon::{Daemon, Metrics};
use super::leftovers::wait_until_programs_are_freed;
use super::load::load;
use super::wait::{PATIENCE, wait_until};

/// A load that pins pages until it is killed.
struct Worker(Child);

/// The kernel's own count of io_uring buffer registrations, which make one pin each.
struct Registrations;

impl Registrations {
    /// A trace buffer for these tests. It may overflow: the kernel counts overwritten entries.
    const TRACE: &str = "/sys/kernel/tracing/instances/pinwatch-tests";

    fn count() -> Self {
        let event = format!("{}/events/io_uring/io_uring_register", Self::TRACE);
        fs::create_dir(Self::TRACE).expect("tracefs");
        fs::write(format!("{event}/filter"), "opcode == 0").expect("a filter");
        fs::write(format!("{event}/enable"), "1").expect("an event");
        Self
    }

    fn so_far(&self) -> u64 {
        let cpus = fs::read_dir(format!("{}/per_cpu", Self::TRACE)).expect("tracefs");
        let of_cpu = |cpu: io::Result<fs::DirEntry>| {
            let path = cpu.expect("a folder").path().join("stats");
            // Each read(2) generates the text anew, so one call must read the whole text.
            let mut text = [0; 4096];
            let length = File::open(path).and_then(|mut file| file.read(&mut text));
            let stats = std::str::from_utf8(&text[..length.expect("statistics")]).expect("ASCII");
            let value = |name: &str| -> u64 {
                let line = stats.lines().find_map(|line| line.strip_prefix(name));
                line.expect(name).trim().parse().expect("a number")
            };
            assert_eq!(value("commit overrun:") + value("dropped events:"), 0);
            value("entries:") + value("overrun:")
        };
        cpus.map(of_cpu).sum()
    }
}

impl Drop for Registrations {
    fn drop(&mut self) {
        let _ = fs::remove_dir(Self::TRACE);
    }
}

impl Worker {
    fn start() -> Self {
        let load = ["load", "--json", "--pages", "1", "--repeat", "1000000"];
        let child = Command::new("pinwatch")
            .args(load)
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("pinwatch is in the PATH"))
    }

    fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("a child");
    }
}

fn assert_nothing_is_left(metrics: &Metrics) {
    for name in ["pins_in_flight", "map_entries", "unmatched_total"] {
        assert_eq!(metrics.total(&format!("pinwatch_{name}")), 0.0, "{name}");
    }
    assert_eq!(metrics.sum("pinwatch_events_lost_total", "slots_full"), 0.0);
}

fn wait_for_ten_pins(daemon: &Daemon) {
    wait_until("ten pins", PATIENCE, || {
        daemon.metrics().total("pinwatch_pins_total") >= 10.0
    });
}

/// Uses kprobes, which lose no return here. A skipped fexit would leave its pin in flight until the thread
/// ends, and the pin would count as lost.
#[test]
fn killed_threads_leave_no_pin_in_flight() {
    let wanted = std::env::var("PINWATCH_TEST_PINS");
    let wanted: u64 = wanted.map_or(1_500, |pins| pins.parse().expect("a number"));
    let daemon = Daemon::start(&["--attach", "kprobe"]);
    let registrations = Registrations::count();
    let mut workers = VecDeque::from([Worker::start(), Worker::start()]);
    let (mut kills, mut next_kill) = (0, 50);
    // The environment can ask for more pins, which take longer.
    let patience = PATIENCE * (1 + wanted as u32 / 1_500);
    wait_until("enough registrations", patience, || {
        if registrations.so_far() >= next_kill {
            next_kill = registrations.so_far() + 150;
            workers.pop_front().expect("two").kill();
            workers.push_back(Worker::start());
            kills += 1;
        }
        registrations.so_far() >= wanted
    });
    workers.into_iter().for_each(Worker::kill);
    let metrics = daemon.metrics();
    let pins = metrics.total("pinwatch_pins_total") as u64;
    println!(
        "{pins} pins, {} registrations, {kills} kills",
        registrations.so_far()
    );
    assert_eq!(pins, registrations.so_far());
    assert_nothing_is_left(&metrics);
}

#[test]
fn a_daemon_killed_during_a_load_can_start_again() {
    let registrations = Registrations::count();
    let worker = Worker::start();
    for kind in super::daemon::KINDS {
        let daemon = Daemon::start(&["--attach", kind]);
        wait_for_ten_pins(&daemon);
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        wait_until_programs_are_freed();
        let before = registrations.so_far();
        let daemon = Daemon::start(&["--attach", kind]);
        let attached = registrations.so_far();
        wait_for_ten_pins(&daemon);
        let from = registrations.so_far();
        let pins = daemon.metrics().total("pinwatch_pins_total") as u64;
        let to = registrations.so_far();
        // One pin may have returned before its registration is counted.
        let possible = from - attached..=to - before + 1;
        assert!(
            possible.contains(&pins),
            "{kind}: {pins} not in {possible:?}"
        );
        daemon.signal(Signal::SIGTERM);
        daemon.wait();
    }
    worker.kill();
    wait_until_programs_are_freed();
    let daemon = Daemon::start(&[]);
    load(&["--pages", "16", "--repeat", "7"]);
    let metrics = daemon.metrics();
    assert_eq!(metrics.total("pinwatch_pins_total"), 7.0);
    assert_nothing_is_left(&metrics);
}
