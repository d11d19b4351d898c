//! Folios that a failed migration left behind, compared with what the load holds: a pipe's references, a pin
//! without FOLL_LONGTERM.

use std::process::Command;

use serde_json::{Value, json};

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::{Daemon, KINDS};
use super::load::{load, movable_pageblock, moves_pages};
use super::watchers::Tail;

const FILE: &str = "/tmp/blockers.pw";

/// A load, and the blockers that it makes: their kind, memory and number.
struct Held {
    args: &'static [&'static str],
    kind: &'static str,
    memory: &'static str,
    folios: u64,
}

const fn held(
    args: &'static [&'static str],
    kind: &'static str,
    memory: &'static str,
    folios: u64,
) -> Held {
    Held {
        args,
        kind,
        memory,
        folios,
    }
}

const LOADS: &[Held] = &[
    held(&["held-one"], "referenced", "anon", 1),
    held(
        &["--pages", "16", "--hold", "vmsplice:3"],
        "referenced",
        "anon",
        3,
    ),
    // At most four are inspected.
    held(&["held-all"], "referenced", "anon", 4),
    held(
        &["--memory", "memfd", "--hold", "vmsplice:2"],
        "referenced",
        "shmem",
        2,
    ),
    held(&["weak-pin"], "pinned", "anon", 1),
    held(&["--pages", "64", "--hold", "weak:2"], "pinned", "anon", 2),
    held(
        &["--memory", "memfd", "--hold", "weak:3"],
        "pinned",
        "shmem",
        3,
    ),
];

#[test]
fn what_a_failed_migration_left_is_what_the_load_holds() {
    for attach in KINDS {
        let daemon = Daemon::start(&["--attach", attach]);
        for held in LOADS {
            let before = daemon.metrics();
            let outcome = load(held.args);
            let failed = if moves_pages() { held.folios } else { 0 };
            assert_eq!(outcome.failures() > 0, failed > 0, "{:?}", held.args);
            let metrics = daemon.metrics().since(&before);
            println!("{attach} {:?}: {:?}", held.args, series(&metrics));
            let labels = format!("kind=\"{}\",memory=\"{}\"", held.kind, held.memory);
            assert_counts(&metrics, &[("blockers_total", failed)]);
            assert_eq!(
                metrics.sum("pinwatch_blockers_total", &labels),
                failed as f64,
                "{labels}"
            );
            let place = format!("zone=\"movable\",pageblock=\"{}\"", movable_pageblock());
            assert_eq!(
                metrics.sum("pinwatch_blocker_places_total", &place),
                failed as f64
            );
            assert_counts(&metrics, &[("blocker_places_total", failed)]);
        }
        assert_counts(&daemon.metrics(), &NOTHING_LOST);
    }
}

fn series(metrics: &super::daemon::Metrics) -> Vec<String> {
    ["pinwatch_blockers_total", "pinwatch_blocker_places_total"]
        .into_iter()
        .flat_map(|name| metrics.series(name))
        .filter(|(_, count)| *count > 0.0)
        .map(|(labels, count)| format!("{labels} {count}"))
        .collect()
}

#[test]
fn pins_that_succeed_have_no_blockers() {
    let daemon = Daemon::start(&[]);
    for scenario in ["touched", "fork", "thp"] {
        load(&[scenario]);
    }
    assert_counts(&daemon.metrics(), &NOTHING_LOST);
    assert_counts(&daemon.metrics(), &[("blockers_total", 0)]);
}

#[test]
fn tail_and_recordings_name_them() {
    if !moves_pages() {
        skip!("this kernel migrates no page of ZONE_MOVABLE");
    }
    let _daemon = Daemon::start(&[]);
    let tail = Tail::start(&["--connect"]);
    let load = "pinwatch load held-one; pinwatch load weak-pin; pinwatch load touched";
    let status = Command::new("pinwatch")
        .args(["record", "--connect", "-o", FILE, "--", "sh", "-c", load])
        .status()
        .expect("pinwatch");
    assert!(status.success());
    let seen = tail.finish();
    let expected = [
        vec![blocker("referenced")],
        vec![blocker("pinned")],
        Vec::new(),
    ];
    let blockers = |pins: &[Value]| {
        pins.iter()
            .map(|pin| pin["blockers"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(blockers(&seen.pins), expected.map(Value::from));
    let report = Command::new("pinwatch")
        .args(["report", "--json", FILE])
        .output()
        .expect("pinwatch");
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(
        report["blockers"],
        json!([
            {"kind": "pinned", "memory": "anon", "folios": 1},
            {"kind": "referenced", "memory": "anon", "folios": 1},
        ])
    );
    assert_eq!(
        report["blocker_places"],
        json!([{"zone": "movable", "pageblock": movable_pageblock(), "folios": 2}])
    );
}

fn blocker(kind: &str) -> Value {
    json!({"kind": kind, "memory": "anon", "zone": "movable", "pageblock": movable_pageblock(), "mapped": 1})
}
