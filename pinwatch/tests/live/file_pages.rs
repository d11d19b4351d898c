//! Pins of pages of a file, compared with the load's log: refused for writes, and waiting for a lock or for writeback.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::Daemon;
use super::load::{Kernel, kernel, load, moves_pages, spawn};
use super::scenarios::VFIO_DEVICE;
use super::wait::{PATIENCE, wait_until};
use super::watchers::Tail;

const PAGES: u64 = 16;

/// From 6.5 on, the pin itself fails. Before, io_uring looks at the file after a pin that succeeded, and AF_XDP never.
#[test]
fn a_file_is_refused_where_the_log_says_so() {
    let is_refused_by_pin = kernel() == Kernel::Folios;
    let daemon = Daemon::start(&[]);
    for (via, origin, errno_before) in [
        ("io_uring", "io_uring", Some("EOPNOTSUPP")),
        ("xdp", "xdp", None),
    ] {
        let before = daemon.metrics();
        let log = load(&[
            "file-backed",
            "--via",
            via,
            "--pages",
            "16",
            "--repeat",
            "3",
        ]);
        let metrics = daemon.metrics().since(&before);
        let errno = if is_refused_by_pin {
            Some("EFAULT")
        } else {
            errno_before
        };
        println!("{via}: {}", log.summary["failed"]);
        let refused = errno.map_or(0, |errno| log.failed(errno));
        assert_eq!(
            (refused, log.ok() + refused),
            (if errno.is_some() { 3 } else { 0 }, 3)
        );
        let failed = if is_refused_by_pin { refused } else { 0 };
        let moved = if moves_pages() {
            3 * PAGES - failed * PAGES
        } else {
            0
        };
        assert_counts(
            &metrics,
            &[
                (&format!("pins_total/origin=\"{origin}\""), 3),
                ("pin_failures_total", failed),
                (
                    "pin_failures_total/errno=\"EFAULT\",cause=\"fault\"",
                    failed,
                ),
                ("migrate_pages_total/succeeded", moved),
                ("blockers_total", 0),
            ],
        );
        assert_eq!(log.pages("after", "Movable"), 3 * PAGES - moved);
        assert_counts(&daemon.metrics(), &NOTHING_LOST);
    }
}

/// The migration waits for the page, so nothing is in the way when it ends.
#[test]
fn a_migration_waits_for_a_locked_page() {
    if !moves_pages() {
        skip!("this kernel migrates no page of ZONE_MOVABLE");
    }
    assert_waits_for("locked");
}

#[test]
fn a_migration_waits_for_writeback() {
    if !moves_pages() {
        skip!("this kernel migrates no page of ZONE_MOVABLE");
    }
    assert_waits_for("writeback");
}

/// The load serves the file whose page its own pin waits for. It ends all the same, and so does its loop device.
#[test]
fn a_killed_load_ends_what_its_pin_waits_for() {
    if !moves_pages() {
        skip!("this kernel migrates no page of ZONE_MOVABLE");
    }
    let daemon = Daemon::start(&[]);
    let before = loop_devices();
    for scenario in ["locked", "writeback"] {
        let mut child = spawn(&[scenario, "--device", VFIO_DEVICE, "--stall-for", "1h"]);
        let in_flight = || daemon.metrics().total("pinwatch_pins_in_flight");
        wait_until("a pin in flight", PATIENCE, || in_flight() == 1.0);
        child.kill().expect("it runs");
        assert!(!child.wait().expect("a child").success());
        wait_until("no pin in flight", PATIENCE, || in_flight() == 0.0);
        wait_until("no loop device of the load", PATIENCE, || {
            loop_devices() == before
        });
    }
}

/// A reference that is not the load's, such as one of the file system, fails the migration now and then.
fn assert_waits_for(scenario: &str) {
    assert!((0..3).any(|_| waits_for(scenario)), "no pin succeeded");
}

/// Makes the pin of a scenario that waits for two seconds, and compares it with the log. False if its migration failed.
fn waits_for(scenario: &str) -> bool {
    let daemon = Daemon::start(&[]);
    let tail = Tail::start(&["--connect", "--origin", "vfio"]);
    let log = load(&[scenario, "--device", VFIO_DEVICE, "--stall-for", "2s"]);
    let [call] = &log.pins[..] else {
        panic!("{:?}", log.pins)
    };
    let ns = |value: &serde_json::Value| value.as_u64().expect("a number");
    if call["result"] == "ENOMEM" {
        let metrics = daemon.metrics();
        assert_counts(&metrics, &NOTHING_LOST);
        assert_counts(
            &metrics,
            &[
                ("pins_total", 1),
                ("pin_failures_total", 1),
                ("pin_failures_total/migrate_busy", 1),
            ],
        );
        println!("{scenario}: ENOMEM");
        return false;
    }
    assert_eq!(call["result"], "ok");
    let hold_ended = &call["hold_ended_ns"];
    // The pin began before the hold ended, and ended after it.
    assert!(ns(&call["started_ns"]) < ns(&hold_ended[0]), "{call}");
    assert!(ns(&call["ended_ns"]) > ns(&hold_ended[0]), "{call}");
    assert_eq!(
        log.pages("before", "Movable") - log.pages("after", "Movable"),
        PAGES
    );

    let metrics = daemon.metrics();
    assert_counts(&metrics, &NOTHING_LOST);
    assert_counts(
        &metrics,
        &[
            ("pins_total", 1),
            ("pin_failures_total", 0),
            ("migrate_calls_total", 1),
            ("migrate_pages_total/succeeded", PAGES),
            ("migrate_pages_total/failed", 0),
            ("blockers_total", 0),
        ],
    );
    let seen = tail.finish().pins;
    assert_eq!(seen.len(), 1, "{seen:?}");
    let (duration, of_call) = (ns(&seen[0]["duration_ns"]), ns(&call["duration_ns"]));
    assert!(duration <= of_call, "{} {call}", seen[0]);
    let migrating = 1e9 * metrics.sum("pinwatch_pin_phase_seconds_total", "phase=\"migrate\"");
    println!("{migrating} ns in the migration, {duration} in the pin, {of_call} in the call");
    assert!(migrating > 0.5 * of_call as f64 && migrating <= duration as f64);
    true
}

/// Loop devices that have a file.
fn loop_devices() -> BTreeSet<OsString> {
    let devices = fs::read_dir("/sys/block").expect("sysfs").flatten();
    let with_file = devices.filter(|device| device.path().join("loop/backing_file").exists());
    with_file.map(|device| device.file_name()).collect()
}
