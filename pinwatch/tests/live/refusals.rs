//! Registrations that RLIMIT_MEMLOCK refuses, compared with the load's log.

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::{Daemon, KINDS};
use super::load::{Kernel, kernel, load, moves_pages};
use super::scenarios::VFIO_DEVICE;
use super::watchers::Tail;

const METRIC: &str = "pinwatch_refusals_total";

/// A load through an interface, the errno that its caller gets, and the pins that it makes first.
fn check(daemon: &Daemon, args: &[&str], origin: &str, errno: &str, pins: u64) {
    let before = daemon.metrics();
    let outcome = load(args);
    let made = outcome.pins.len() as u64;
    assert_eq!((outcome.failed(errno), made), (made, 3), "{args:?}");
    let metrics = daemon.metrics().since(&before);
    let labels = format!("origin=\"{origin}\",reason=\"memlock\"");
    let refused = metrics.sum(METRIC, &labels);
    println!("{args:?}: {made} refused by the kernel, {refused} counted");
    assert_eq!(refused, made as f64, "{labels}");
    assert_counts(
        &metrics,
        &[("refusals_total", made), ("pin_failures_total", 0)],
    );
    // io_uring checks the limit after its pins, AF_XDP before them.
    assert_eq!(metrics.total("pinwatch_pins_total"), pins as f64);
}

#[test]
fn refusals_of_the_memlock_limit_are_those_of_the_load() {
    for attach in KINDS {
        let daemon = Daemon::start(&["--attach", attach, "--with", "refusals"]);
        check(&daemon, &["memlock", "--via", "xdp"], "xdp", "ENOBUFS", 0);
        // 5.10 counts the maps of BPF programs against the same limit, and refuses the ring.
        if kernel() != Kernel::CmaOnly {
            check(&daemon, &["memlock"], "io_uring", "ENOMEM", 3);
        }
        assert_counts(&daemon.metrics(), &NOTHING_LOST);
    }
}

/// A filter selects them by origin, process and thread name, as it does pins.
#[test]
fn refusals_are_lines_of_tail() {
    let _daemon = Daemon::start(&["--with", "refusals"]);
    let all = Tail::start(&["--connect"]);
    let others = Tail::start(&["--connect", "--origin", "rdma"]);
    let made = load(&["memlock", "--via", "xdp"]).failed("ENOBUFS");
    let refusals = all.finish().refusals;
    assert_eq!((made, refusals.len()), (3, 3));
    for refusal in &refusals {
        assert_eq!(refusal["comm"], "pinwatch");
        assert_eq!(refusal["origin"], "xdp");
        assert_eq!(refusal["errno"], "ENOBUFS");
        assert_eq!(refusal["reason"], "memlock");
    }
    assert_eq!(others.finish().refusals.len(), 0);
}

/// VFIO type 1 compares with the limit inline, and returns the same errno for a pin that failed.
#[test]
fn refusals_of_vfio_are_not_seen() {
    let daemon = Daemon::start(&["--with", "refusals"]);
    let log = load(&["memlock", "--via", "vfio", "--device", VFIO_DEVICE]);
    assert_eq!((log.failed("ENOMEM"), log.failures()), (3, 3));
    let none = [("refusals_total", 0), ("pin_failures_total", 0)];
    assert_counts(&daemon.metrics(), &none);
}

/// As VFIO. Only kernels of the full flavour have soft RoCE.
#[test]
#[ignore = "needs soft RoCE"]
fn refusals_of_rdma_are_not_seen() {
    let daemon = Daemon::start(&["--with", "refusals"]);
    let log = load(&["memlock", "--via", "rdma", "--device", "lo"]);
    assert_eq!((log.failed("ENOMEM"), log.failures()), (3, 3));
    let none = [("refusals_total", 0), ("pins_total", 0)];
    assert_counts(&daemon.metrics(), &none);
}

/// A registration within the limit, and one that fails in its pin, are no refusals.
#[test]
fn other_registrations_are_none() {
    let daemon = Daemon::start(&["--with", "refusals"]);
    let within = load(&["--via", "xdp", "--pages", "16", "--memlock", "100000"]);
    assert_eq!(within.failures(), 0);
    let failed = load(&["held-one", "--via", "xdp"]).failures();
    assert_eq!(failed > 0, moves_pages());
    load(&["held-one"]);
    assert_counts(&daemon.metrics(), &[("refusals_total", 0)]);
}
