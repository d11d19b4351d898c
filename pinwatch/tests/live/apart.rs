//! Ignored tests that need a special guest. `cargo xtask test` boots it and runs them by name.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::attach::assert_attached_is_planned;
use super::daemon::{Daemon, KINDS};
use super::load::load;
use super::recordings::with_write;
use super::scenarios::{ScenarioRow, check, row};
use super::watchers::Tail;

/// Only kernels of the full flavour have soft RoCE.
#[test]
#[ignore = "needs soft RoCE"]
fn rdma() {
    let daemon = Daemon::start(&[]);
    for scenario in ["rdma", "rdma-read-only", "rdma-zero-page"] {
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
    soak.args(["soak", "--minutes", "2", "--seed", &seed]);
    for beside in ["updates", "lookups", "pinwatch"] {
        soak.args(["--neighbour", beside]);
    }
    let status = soak.status().expect("pinwatch-bench is in the PATH");
    assert!(status.success(), "seed {seed}");
}
