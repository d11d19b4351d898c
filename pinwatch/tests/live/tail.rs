//! `pinwatch tail`, against what the load did and what the metrics say.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::daemon::{Daemon, Metrics, get};
use super::load::{can_wait_for_faults, finish, load, moves_pages, spawn};
use super::watchers::{Tail, Top};

const SOCKET: &str = "/run/pinwatch/pinwatch.sock";
/// What the daemon may grow by for followers that do not read: what waits in its
/// hub and in their connections (docs/tail.md), and the allocator's share.
const BOUND: f64 = 8.0 * 1024.0 * 1024.0;

fn sent(metrics: &Metrics) -> f64 {
    metrics.total("pinwatch_events_sent_total")
}

/// Pins to make; the environment can ask for more than the standing test needs.
fn many() -> u64 {
    let asked = std::env::var("PINWATCH_TEST_PINS").ok();
    asked.map_or(2_000, |n| n.parse().expect("a number"))
}

#[test]
fn every_pin_is_a_line_or_counted_as_lost() {
    let daemon = Daemon::start(&[]);
    load(&["--pages", "16", "--repeat", "10"]);
    assert_eq!(sent(&daemon.metrics()), 0.0, "nobody listens");

    let (tail, other) = (Tail::start(&["--connect"]), Tail::start(&["--connect"]));
    assert_eq!(tail.start["version"], env!("CARGO_PKG_VERSION"));
    let pins = many();
    load(&["--pages", "16", "--repeat", &pins.to_string()]);
    for tail in [tail, other] {
        let seen = tail.finish();
        println!("{} lines, {}", seen.pins.len(), seen.summary["lost"]);
        assert_eq!(seen.pins.len() as u64 + seen.lost(), pins);
        let right = |pin: &Value| {
            pin["comm"] == "pinwatch" && pin["origin"] == "io_uring" && pin["ok"] == true
        };
        assert!(seen.pins.iter().all(right));
    }
    let metrics = daemon.metrics();
    let lost = metrics.sum("pinwatch_events_lost_total", "ring_full");
    assert_eq!(metrics.total("pinwatch_pins_total"), (pins + 10) as f64);
    assert_eq!(sent(&metrics) + lost, pins as f64);

    load(&["--pages", "16", "--repeat", "10"]);
    let after = daemon.metrics();
    assert_eq!(sent(&after), sent(&metrics), "nobody listens any more");
    assert_eq!(after.total("pinwatch_pins_total"), (pins + 20) as f64);
}

#[test]
fn a_suspended_tail_costs_the_daemon_nothing_beyond_its_bound() {
    let daemon = Daemon::start(&[]);
    let memory = |metrics: &Metrics| metrics.total("process_resident_memory_bytes");
    let before = daemon.metrics();
    let (stopped, quick) = (Tail::start(&["--connect"]), Tail::start(&["--connect"]));
    stopped.signal(Signal::SIGSTOP);
    let pins = 6 * many();
    load(&[
        "threads",
        "--repeat",
        &(pins / 24).to_string(),
        "--pages",
        "1",
    ]);
    let pins = pins / 24 * 24;
    let after = daemon.metrics();
    let grown = memory(&after) - memory(&before);
    println!("{pins} pins past a stopped tail: {grown} bytes more");
    assert!(grown < BOUND, "{grown} bytes more");
    let missed = after.total("pinwatch_pins_lost_total") as u64;
    assert!(missed <= after.may_lose(pins), "{missed} pins missed");
    let pins = pins - missed;
    assert_eq!(after.total("pinwatch_pins_total"), pins as f64);
    let seen = quick.finish();
    assert_eq!(seen.pins.len() as u64 + seen.lost(), pins);
    stopped.signal(Signal::SIGCONT);
    let seen = stopped.finish();
    assert!(seen.lost() > 0, "more than what may wait");
    assert_eq!(seen.pins.len() as u64 + seen.lost(), pins);
}

#[test]
fn the_kernel_sends_only_what_a_filter_wants() {
    let daemon = Daemon::start(&[]);
    let failed = Tail::start(&["--connect", "--failed"]);
    load(&["--pages", "16", "--repeat", "20"]);
    load(&["--memory", "readonly", "--pages", "16", "--repeat", "3"]);
    assert_eq!(sent(&daemon.metrics()), 3.0);
    let other = Tail::start(&["--connect", "--comm", "somebody"]);
    load(&["--pages", "16", "--repeat", "5"]);
    assert_eq!(
        sent(&daemon.metrics()),
        8.0,
        "two different wishes have only `all` in common"
    );
    let seen = failed.finish();
    assert_eq!(seen.pins.len(), 3);
    for pin in &seen.pins {
        assert_eq!(
            (&pin["errno"], &pin["cause"]),
            (&"EFAULT".into(), &"fault".into())
        );
    }
    assert_eq!(other.finish().pins.len(), 0);
}

#[test]
fn a_tail_attaches_by_itself() {
    let tail = Tail::start(&["--min-passes", "1"]);
    load(&["--pages", "64", "--hold", "vmsplice"]);
    let seen = tail.finish();
    assert_eq!((seen.pins.len(), seen.lost()), (1, 0));
    let pin = &seen.pins[0];
    assert_eq!(pin["pages_requested"], 64);
    if moves_pages() {
        assert_eq!(
            (&pin["errno"], &pin["cause"], &pin["migrate_failed"]),
            (&"ENOMEM".into(), &"migrate_busy".into(), &1.into())
        );
    }
}

#[test]
fn a_hung_pin_shows_up_everywhere() {
    let daemon = Daemon::start(&[]);
    let mut tail = Tail::start(&["--connect"]);
    let mut top = Top::start(&["--connect"]);
    top.wait_for("none");
    // Before 6.5 a pin cannot wait for a userfaultfd.
    let scenario = if can_wait_for_faults() {
        "slow"
    } else {
        "starved"
    };
    let slow = spawn(&[scenario, "--stall-for", "5s"]);
    let object = tail.next().expect("a line");
    assert_eq!(object["type"], "in_flight", "before it ended: {object}");
    let view: Value = serde_json::from_str(&get("/state")).expect("JSON");
    assert_eq!(view["in_flight"], 1);
    for pin in [&object, &view["oldest"][0]] {
        assert_eq!(
            (&pin["origin"], &pin["comm"], &pin["signature"]),
            (
                &"io_uring".into(),
                &"pinwatch".into(),
                &"faulting pages in".into()
            )
        );
    }
    top.wait_for("faulting");
    let metrics = daemon.metrics();
    assert_eq!(
        metrics.total("pinwatch_pins_total"),
        0.0,
        "all three before it ended"
    );
    let age = metrics.total("pinwatch_pin_in_flight_oldest_seconds");
    println!(
        "a hung pin: a line at {} s, seen by all three at {age} s",
        object["age_seconds"]
    );
    finish(slow);
    assert_eq!(tail.finish().pins.len(), 1);
}

#[test]
fn the_socket_is_roots_and_goes_with_the_daemon() {
    let daemon = Daemon::start(&[]);
    let meta = fs::metadata(SOCKET).expect("a socket");
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    let refused = |command: &mut Command| {
        let output = command
            .args(["tail", "--connect"])
            .output()
            .expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let nobody = refused(Command::new("pinwatch").uid(65534).gid(65534));
    assert!(nobody.contains("only root may follow it"), "{nobody}");

    let second = Command::new("pinwatch")
        .args([
            "run",
            "--web.listen-address",
            "127.0.0.1:0",
            "--socket",
            SOCKET,
        ])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains("another pinwatch listens on"), "{said}");

    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    assert!(!fs::exists(SOCKET).expect("a folder"));
    let gone = refused(&mut Command::new("pinwatch"));
    assert!(gone.contains("is `pinwatch run` running?"), "{gone}");
    assert_eq!(gone.lines().count(), 1, "{gone}");
}
