//! Ignored tests that need a special guest. `cargo xtask test` boots it and runs them by name.

use super::attach::assert_attached_is_planned;
use super::daemon::Daemon;
use super::load::load;
use super::recordings::with_write;
use super::scenarios::{ScenarioRow, check, row};

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

/// Pins 2 GiB of address space in one call.
#[test]
#[ignore = "needs 3 GiB of memory"]
fn large() {
    let daemon = Daemon::start(&[]);
    check(&row("large", ["ok", "ok", "ok"]).from("xdp"), &daemon).unwrap();
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
