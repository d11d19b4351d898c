//! Tests that need a guest of their own: `cargo xtask test` gives them one.

use super::attach::attached_is_planned;
use super::daemon::Daemon;
use super::load::load;
use super::scenarios::{Row, check, row};

/// Soft RoCE is in kernels of the full flavour only.
#[test]
#[ignore = "needs soft RoCE"]
fn rdma() {
    let daemon = Daemon::start(&[]);
    let row = row("rdma", ["ok", "ok", "ok"]).from("rdma");
    let row = Row {
        args: &["--device", "lo"],
        ..row
    };
    check(&row, &daemon).unwrap();
}

/// 2 GiB of address space in one call.
#[test]
#[ignore = "needs 3 GiB of memory"]
fn large() {
    let daemon = Daemon::start(&[]);
    check(&row("large", ["ok", "ok", "ok"]).from("xdp"), &daemon).unwrap();
}

/// Lockdown for confidentiality takes kprobes away, and reading of kernel memory.
#[test]
#[ignore = "needs lockdown=confidentiality"]
fn lockdown() {
    attached_is_planned("auto", 1);
    let daemon = Daemon::start(&[]);
    load(&["--pages", "16", "--repeat", "3"]);
    let metrics = daemon.metrics();
    assert_eq!(metrics.total("pinwatch_pins_total"), 3.0);
    assert_eq!(metrics.total("pinwatch_pins_in_flight"), 0.0);
    assert_eq!(metrics.total("pinwatch_pin_pages_sampled_total"), 0.0);
}
