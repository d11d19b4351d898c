//! Ignored tests that need a special guest. `cargo xtask test` boots it and runs them by name.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::attach::assert_attached_is_planned;
use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::{Daemon, KINDS};
use super::load::{LoadLog, load};
use super::recordings::with_write;
use super::scenarios::{ScenarioRow, check, row};
use super::watchers::Tail;

/// Only kernels of the full flavour have soft RoCE.
#[test]
#[ignore = "needs soft RoCE"]
fn rdma() {
    let daemon = Daemon::start(&[]);
    for scenario in ["rdma", "rdma-write", "rdma-read-only", "rdma-zero-page"] {
        let row = row(scenario, ["ok", "ok", "ok"]).from("rdma");
        let row = ScenarioRow {
            args: &["--device", "lo"],
            ..row
        };
        check(&row, &daemon).unwrap();
    }
    for (scenario, writes) in [
        ("rdma", true),
        ("rdma-read-only", false),
        ("rdma-zero-page", false),
    ] {
        let pins = with_write(&[scenario, "--device", "lo"]);
        assert_eq!(pins, [writes, writes], "{scenario}");
    }
}

/// Without ZONE_MOVABLE, the pages of a pin that lie in a CMA area migrate, and no others.
#[test]
#[ignore = "needs a guest whose free memory is mostly CMA"]
fn cma() {
    const MANY: &str = "16384";
    let daemon = Daemon::start(&[]);
    let log = load(&["held-all", "--pages", MANY]);
    let moved = |log: &LoadLog| log.pins[0]["moved"].as_u64();
    // EFAULT where GUP-fast took the first pages, which were elsewhere.
    assert_eq!((log.failures(), moved(&log)), (1, Some(0)));
    assert_eq!(log.pages("before", "Movable"), 0);
    let first = daemon.metrics();
    assert_counts(
        &first,
        &[
            ("pin_failures_total", 1),
            (
                "pin_failures_total/errno=\"ENOMEM\",cause=\"migrate_busy\"",
                1,
            ),
            ("migrate_pages_total/succeeded", 0),
            // At most four are inspected.
            ("blockers_total/kind=\"referenced\",memory=\"anon\"", 4),
            ("blocker_places_total", 4),
            ("blocker_places_total/zone=\"dma32\",pageblock=\"cma\"", 4),
            ("unpinnable_pages_sampled_total", 1),
            (
                "unpinnable_pages_sampled_total/zone=\"dma32\",pageblock=\"cma\"",
                1,
            ),
        ],
    );

    let log = load(&["--pages", MANY]);
    let migrated = moved(&log).expect("a number");
    println!("{migrated} of {MANY} pages were in a CMA area");
    assert!(migrated > 0, "the kernel put no page into a CMA area");
    assert_eq!((log.ok(), log.pages("before", "Movable")), (1, 0));
    assert_counts(&daemon.metrics(), &NOTHING_LOST);
    assert_counts(
        &daemon.metrics().since(&first),
        &[
            ("pins_total", 1),
            ("pin_failures_total", 0),
            ("pin_passes_sum", 2),
            ("pin_unpinnable_total", migrated),
            ("migrate_pages_total/succeeded", migrated),
            ("migrate_pages_total/failed", 0),
            ("blockers_total", 0),
        ],
    );
}

/// Pins 2 GiB of address space in one call.
#[test]
#[ignore = "needs 3 GiB of memory"]
fn large() {
    let daemon = Daemon::start(&[]);
    check(&row("large", ["ok", "ok", "ok"]).from("xdp"), &daemon).unwrap();
}

/// Lockdown for integrity forbids none of what pinwatch does.
#[test]
#[ignore = "needs lockdown=integrity"]
fn integrity() {
    for kind in KINDS {
        assert_attached_is_planned(kind, 0);
        let daemon = Daemon::start(&["--attach", kind]);
        load(&["--pages", "16", "--repeat", "3"]);
        let metrics = daemon.metrics();
        assert_eq!(metrics.total("pinwatch_pins_total"), 3.0);
        assert_eq!(metrics.total("pinwatch_pins_in_flight"), 0.0);
        assert_eq!(metrics.total("pinwatch_pins_lost_total"), 0.0);
    }
}

/// The kernel freezes tasks and suspends devices, and then resumes at once.
#[test]
#[ignore = "needs /sys/power/pm_test"]
fn suspend() {
    const TEST: &str = "/sys/power/pm_test";
    let daemon = Daemon::start(&[]);
    let mut tail = Tail::start(&["--connect"]);
    let mut times = Vec::new();
    for level in ["freezer", "devices"] {
        fs::write(TEST, level).expect("a kernel with CONFIG_PM_DEBUG");
        fs::write("/sys/power/state", "freeze").expect("a test of a suspend");
        load(&["--pages", "1"]);
        let pin = tail.next().expect("a pin");
        times.push(pin["time"].as_str().expect("a time").to_owned());
    }
    fs::write(TEST, "none").expect("root may");
    assert!(times.is_sorted(), "{times:?}");
    let metrics = daemon.metrics();
    assert_eq!(metrics.total("pinwatch_pins_total"), 2.0);
    assert_eq!(metrics.total("pinwatch_pins_lost_total"), 0.0);
}

/// Lockdown for confidentiality forbids kprobes and reading kernel memory.
#[test]
#[ignore = "needs lockdown=confidentiality"]
fn lockdown() {
    assert_attached_is_planned("auto", 1);
    let daemon = Daemon::start(&[]);
    load(&["--pages", "16", "--repeat", "3"]);
    let metrics = daemon.metrics();
    assert_eq!(metrics.total("pinwatch_pins_total"), 3.0);
    assert_eq!(metrics.total("pinwatch_pins_in_flight"), 0.0);
    assert_eq!(metrics.total("pinwatch_pin_pages_sampled_total"), 0.0);
}

/// A short run of `cargo xtask soak`, beside programs that need no package.
#[test]
#[ignore = "needs the program of cargo xtask soak"]
fn soak() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.expect("after 1970").as_secs().to_string();
    let mut soak = Command::new("pinwatch-bench");
    soak.args(["soak", "--minutes", "1", "--seed", &seed]);
    for beside in ["updates", "lookups", "pinwatch"] {
        soak.args(["--neighbour", beside]);
    }
    let status = soak.status().expect("pinwatch-bench is in the PATH");
    assert!(status.success(), "seed {seed}");
}
