//! Holders of weak pins, compared with the load's own log of them.

use serde_json::Value;

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::{Daemon, get};
use super::load::{LoadLog, has_trampolines, load, moves_pages};
use super::watchers::Tail;

/// Largest difference between the time that pinwatch shows and the load's own.
const TOLERANCE_NS: u64 = 200_000_000;

/// The weak pin of the load's first pin: its thread, start and end.
fn weak(log: &LoadLog) -> (u64, u64, u64) {
    let weak = &log.pins[0]["weak"];
    let number = |name: &str| weak[name].as_u64().expect("a weak pin");
    (number("tid"), number("started_ns"), number("ended_ns"))
}

fn assert_near(seen: &Value, expected: u64, what: &str) {
    let seen = seen.as_u64().expect("a number");
    println!("{what}: {seen} ns, {expected} ns by the load");
    assert!(
        seen.abs_diff(expected) <= TOLERANCE_NS,
        "{what}: {seen}, not {expected}"
    );
}

#[test]
fn a_weak_pin_of_five_seconds_is_named_with_its_holder_and_its_time() {
    if !moves_pages() {
        skip!("this kernel migrates no page of ZONE_MOVABLE");
    }
    if !has_trampolines() {
        skip!("weak pins are lost: this kernel attaches no fexit");
    }
    let daemon = Daemon::start(&["--with", "weak_pins"]);
    for hold in ["weak", "weak:70"] {
        let before = daemon.metrics();
        let tail = Tail::start(&["--connect"]);
        let log = load(&["--pages", "256", "--hold", hold, "--weak-for", "5s"]);
        let (tid, started_ns, ended_ns) = weak(&log);
        let seen = tail.finish();
        let holder = &seen.pins[0]["holder"];
        println!("{holder}");
        assert_eq!(seen.pins[0]["blockers"][0]["kind"], "pinned");
        assert_eq!(holder["tid"], tid);
        assert_eq!(holder["pid"], seen.pins[0]["pid"], "the load itself");
        assert_eq!(holder["comm"], "pinwatch");
        assert_eq!(holder["origin"], "process_vm");
        let pin_ended_ns = log.pins[0]["ended_ns"].as_u64().expect("a time");
        assert_near(
            &holder["held_ns"],
            pin_ended_ns - started_ns,
            "held at the failure",
        );
        let metrics = daemon.metrics().since(&before);
        assert_counts(
            &metrics,
            &[
                ("weak_pins_total", 1),
                ("weak_pins_total/origin=\"process_vm\"", 1),
                ("weak_pin_held_seconds_count", 1),
            ],
        );
        let held = metrics.sum("pinwatch_weak_pin_held_seconds_sum", "") * 1e9;
        assert_near(&(held as u64).into(), ended_ns - started_ns, "held in all");
        let state = state();
        let blocked = &state["blocked"][0];
        assert_eq!(blocked["tid"], tid);
        assert_eq!(blocked["holds"], false);
        assert_near(&blocked["held_ns"], ended_ns - started_ns, "held in /state");
    }
    assert_counts(&daemon.metrics(), &NOTHING_LOST);
    assert_counts(&daemon.metrics(), &[("events_lost_total", 0)]);
}

fn state() -> Value {
    serde_json::from_str(&get("/state")).expect("JSON")
}

#[test]
fn short_weak_pins_are_all_counted_and_released() {
    if !moves_pages() {
        skip!("this kernel migrates no page of ZONE_MOVABLE");
    }
    if !has_trampolines() {
        skip!("weak pins are lost: this kernel attaches no fexit");
    }
    let daemon = Daemon::start(&["--with", "weak_pins"]);
    let log = load(&["--via", "process_vm", "--pages", "16", "--repeat", "100"]);
    assert_eq!((log.ok(), log.pages("before", "Movable")), (100, 1600));
    let metrics = daemon.metrics();
    assert_counts(&metrics, &NOTHING_LOST);
    assert_counts(
        &metrics,
        &[
            ("weak_pins_total/origin=\"process_vm\"", 100),
            ("weak_pin_held_seconds_count", 100),
            ("pins_total", 0),
        ],
    );
}

#[test]
fn without_the_measurement_nobody_is_named() {
    let _daemon = Daemon::start(&[]);
    let tail = Tail::start(&["--connect"]);
    load(&["weak-pin"]);
    let seen = tail.finish();
    assert_eq!(seen.pins[0]["holder"], Value::Null);
}
