//! `pinwatch tail` and `top` at the daemon, compared with the load's log and with the metrics.

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
/// Bytes by which the daemon may grow for followers that do not read: events in its hub and in their
/// connections (docs/tail.md), and overhead of the allocator.
const BOUND: f64 = 8.0 * 1024.0 * 1024.0;

/// Events that the kernel has sent.
fn sent(metrics: &Metrics) -> f64 {
    metrics.total("pinwatch_events_sent_total")
}

/// Number of pins to make. `PINWATCH_TEST_PINS` overrides the default.
fn many() -> u64 {
    let asked = std::env::var("PINWATCH_TEST_PINS").ok();
    asked.map_or(2_000, |n| n.parse().expect("a number"))
}

#[test]
fn every_pin_is_a_line_or_reported_as_lost() {
    let daemon = Daemon::start(&[]);
    load(&["--pages", "16", "--repeat", "10"]);
    assert_eq!(sent(&daemon.metrics()), 0.0, "no event without a follower");

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
    assert_eq!(
        sent(&after),
        sent(&metrics),
        "no event after the last follower has left"
    );
    assert_eq!(after.total("pinwatch_pins_total"), (pins + 20) as f64);
}

#[test]
fn a_suspended_tail_costs_the_daemon_bounded_memory() {
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
    println!("{pins} pins past a stopped tail: the daemon grew by {grown} bytes");
    assert!(grown < BOUND, "the daemon grew by {grown} bytes");
    let lost = after.total("pinwatch_pins_lost_total") as u64;
    assert!(lost <= after.may_lose(pins), "{lost} pins lost");
    let pins = pins - lost;
    assert_eq!(after.total("pinwatch_pins_total"), pins as f64);
    let seen = quick.finish();
    assert_eq!(seen.pins.len() as u64 + seen.lost(), pins);
    stopped.signal(Signal::SIGCONT);
    let seen = stopped.finish();
    assert!(seen.lost() > 0, "more events than the queue holds");
    assert_eq!(seen.pins.len() as u64 + seen.lost(), pins);
}

#[test]
fn the_kernel_sends_only_pins_that_match_a_filter() {
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
        "two different filters make the kernel send every pin"
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
fn a_tail_without_connect_attaches_its_own_programs() {
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
fn a_hung_pin_is_shown_by_tail_top_state_and_metrics() {
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
    assert_eq!(
        object["type"], "in_flight",
        "not reported before it ended: {object}"
    );
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
        "the pin ended before all three outputs showed it"
    );
    let age = metrics.total("pinwatch_pin_in_flight_oldest_seconds");
    println!(
        "a hung pin: a line at {} s, shown by all three outputs at {age} s",
        object["age_seconds"]
    );
    finish(slow);
    assert_eq!(tail.finish().pins.len(), 1);
}

#[test]
fn only_root_may_open_the_socket_and_it_is_removed_with_the_daemon() {
    let daemon = Daemon::start(&["--user", "root"]);
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
    assert!(said.contains("another process listens on"), "{said}");

    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    assert!(!fs::exists(SOCKET).expect("a folder"));
    let gone = refused(&mut Command::new("pinwatch"));
    assert!(gone.contains("is `pinwatch run` running?"), "{gone}");
    assert_eq!(gone.lines().count(), 1, "{gone}");
}
