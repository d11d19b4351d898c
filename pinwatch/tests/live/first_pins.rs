//! A registration behind another pin of one of its pages: which ones fail, compared with the load's log.

use serde_json::Value;

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::Daemon;
use super::load::{Kernel, kernel, load, moves_pages};
use super::watchers::Tail;

/// A scenario with a first pin, and what becomes of the registration where pins move pages out of ZONE_MOVABLE.
struct FirstPin {
    scenario: &'static str,
    fails: bool,
    /// Pages that the registration moves out of ZONE_MOVABLE.
    moves: u64,
}

const PAGES: u64 = 64;
const TIMES: u64 = 3;

#[rustfmt::skip]
const FIRST_PINS: [FirstPin; 4] = [
    FirstPin { scenario: "touched", fails: false, moves: PAGES },
    FirstPin { scenario: "weak-pin", fails: true, moves: PAGES - 1 },
    FirstPin { scenario: "long-term-pin", fails: false, moves: PAGES - 1 },
    FirstPin { scenario: "weak-pin-ordinary", fails: false, moves: 0 },
];

/// Runs the load of each first pin with these arguments, whose pins have this origin. `is_fast`: GUP-fast takes pages
/// that need not move.
pub fn check(args: &[&str], origin: &str, is_fast: bool) {
    let daemon = Daemon::start(&[]);
    for first in &FIRST_PINS {
        let tail = Tail::start(&["--connect", "--origin", origin]);
        let before = daemon.metrics();
        let (pages, times) = (PAGES.to_string(), TIMES.to_string());
        let counted = ["--pages", &pages, "--repeat", &times];
        let log = load(&[&[first.scenario], args, &counted[..]].concat());
        let metrics = daemon.metrics().since(&before);
        let seen = tail.finish().pins;

        let failed = TIMES * u64::from(first.fails && moves_pages());
        let moved = TIMES * first.moves * u64::from(moves_pages());
        println!(
            "{} {args:?}: {} of {TIMES} failed",
            first.scenario,
            log.failures()
        );
        assert_eq!((log.failed("ENOMEM"), log.failures()), (failed, failed));
        assert_eq!(
            log.pages("before", "Movable") - log.pages("after", "Movable"),
            moved
        );

        let sum = |name: &str| log.summary[name].as_u64().expect("a summary");
        let other = sum("other_pins");
        let by_fast = is_fast && moves_pages() && first.moves == 0;
        let made = if by_fast { 0 } else { sum("expected_pins") };
        let of_origin = |name: &str| metrics.sum(name, &format!("origin=\"{origin}\""));
        let others_of_origin = if origin == "io_uring" { other } else { 0 };
        assert_eq!(
            of_origin("pinwatch_pins_total"),
            (made + others_of_origin) as f64
        );
        assert_counts(
            &metrics,
            &[
                ("pins_total", made + other),
                ("pin_failures_total", failed),
                (
                    "pin_failures_total/errno=\"ENOMEM\",cause=\"migrate_busy\"",
                    failed,
                ),
                ("blockers_total", failed),
                ("blockers_total/kind=\"pinned\",memory=\"anon\"", failed),
            ],
        );
        failures_are_those_of_the_log(&log.pins, &seen);
        assert_counts(&daemon.metrics(), &NOTHING_LOST);
    }
}

/// Each failed registration of the log is a failed pin inside that system call, and there are no others.
fn failures_are_those_of_the_log(logged: &[Value], seen: &[Value]) {
    let logged = logged.iter().filter(|pin| pin["result"] != "ok");
    let mut seen = seen.iter().filter(|pin| !pin["errno"].is_null());
    for call in logged {
        let pin = seen.next().expect("a failed pin");
        assert_eq!(
            (&pin["tid"], &pin["errno"]),
            (&call["tid"], &call["result"])
        );
        assert!(
            pin["duration_ns"].as_u64() <= call["duration_ns"].as_u64(),
            "{pin} {call}"
        );
        assert_eq!(pin["blockers"][0]["kind"], "pinned", "{pin}");
    }
    assert_eq!(seen.next(), None);
}

#[test]
fn io_uring_fails_behind_a_weak_pin_of_a_movable_page_only() {
    check(
        &["--via", "io_uring"],
        "io_uring",
        kernel() == Kernel::Folios,
    );
}

/// Only kernels of the full flavour have soft RoCE.
#[test]
#[ignore = "needs soft RoCE"]
fn rdma_fails_behind_a_weak_pin_of_a_movable_page_only() {
    check(&["--via", "rdma", "--device", "lo"], "rdma", true);
}
