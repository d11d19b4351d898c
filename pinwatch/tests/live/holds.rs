//! How long blockers held, compared with the load's log of its own holders.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::{Daemon, KINDS, Metrics};
use super::load::{Kernel, kernel, load, moves_pages};
use super::wait::{PATIENCE, wait_for};

const FILE: &str = "/tmp/holds.pw";

/// Ends of holds by what became of them: ended, cut off, without room, unclear.
fn ends(metrics: &Metrics) -> [f64; 4] {
    let unwatched = |reason| metrics.sum("pinwatch_blocker_holds_unwatched_total", reason);
    [
        metrics.total("pinwatch_blocker_hold_seconds_count"),
        metrics.total("pinwatch_blocker_holds_cut_off_total"),
        unwatched("reason=\"no_room\""),
        unwatched("reason=\"unclear\""),
    ]
}

/// Waits until each blocker has an end, and returns the ends.
fn all_ended(daemon: &Daemon) -> [f64; 4] {
    wait_for("the end of each hold", PATIENCE, || {
        let metrics = daemon.metrics();
        let ends = ends(&metrics);
        let seen = metrics.total("pinwatch_blockers_total");
        assert!(ends.iter().sum::<f64>() <= seen, "{ends:?} of {seen}");
        (seen > 0.0 && ends.iter().sum::<f64>() == seen).then_some(ends)
    })
}

fn lines(output: Vec<u8>) -> Vec<Value> {
    let text = String::from_utf8(output).expect("UTF-8");
    let objects = text.lines().filter(|line| line.starts_with('{'));
    objects
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn pinwatch(args: &[&str]) -> Vec<u8> {
    let output = Command::new("pinwatch").args(args).output();
    let output = output.expect("pinwatch");
    assert!(output.status.success(), "{args:?}: {output:?}");
    output.stdout
}

/// Records holders of 10, 100 and 1000 ms. Returns the pins that the load logged.
fn record_three(daemon: &Daemon) -> Vec<Value> {
    // The command ends when its standard input is closed, once all holds have ended.
    let load = "for hold in 10ms 100ms 1s; do pinwatch load held-one --release-after $hold --json; done; cat";
    let mut recorder = Command::new("pinwatch")
        .args(["record", "--connect", "-o", FILE, "--", "sh", "-c", load])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("pinwatch");
    wait_for("three blockers", PATIENCE, || {
        (daemon.metrics().total("pinwatch_blockers_total") == 3.0).then_some(())
    });
    assert_eq!(all_ended(daemon), [3.0, 0.0, 0.0, 0.0]);
    drop(recorder.stdin.take());
    let output = recorder.wait_with_output().expect("a child");
    assert!(output.status.success());
    let mut logged = lines(output.stdout);
    logged.retain(|line| line["held_ns"].is_array());
    logged
}

#[test]
fn holds_last_as_long_as_their_holders_and_waiting_is_judged_by_them() {
    if !moves_pages() {
        skip!("this kernel migrates no page of ZONE_MOVABLE");
    }
    let daemon = Daemon::start(&[]);
    let logged = record_three(&daemon);
    let replayed = lines(pinwatch(&["tail", "--replay", FILE, "--json"]));
    let holds: BTreeMap<_, _> = replayed
        .iter()
        .filter(|line| line["type"] == "hold")
        .map(|hold| (hold["tid"].as_u64(), hold))
        .collect();
    assert_eq!((logged.len(), holds.len()), (3, 3), "{replayed:?}");
    for pin in &logged {
        let hold = holds[&pin["tid"].as_u64()];
        println!("logged {} recorded {hold}", pin["held_ns"]);
        assert_eq!(
            (&hold["kind"], &hold["memory"]),
            (&"referenced".into(), &"anon".into())
        );
        let ns = |value: &Value| value.as_u64().expect("a number");
        // The load counts from the pin's return. The failed migration was before it, and after the pin's entry.
        assert!(
            ns(&hold["hold_ns"]) >= ns(&pin["held_ns"][0]),
            "{pin} {hold}"
        );
        let latest = ns(&pin["held_ns"][1]) + ns(&pin["duration_ns"]);
        assert!(ns(&hold["held_ns"]) <= latest, "{pin} {hold}");
    }
    // A guest can be slow to start the timer: the ends of short holds are known less exactly than those of long ones.
    let longest = holds.values().max_by_key(|hold| hold["hold_ns"].as_u64());
    assert_eq!(longest.map(|hold| &hold["tid"]), Some(&logged[2]["tid"]));
    let mut lasted: Vec<_> = holds
        .values()
        .filter_map(|h| h["hold_ns"].as_u64())
        .collect();
    lasted.sort_unstable();
    // Longer than all but the longest. A busy host can make any of them longer than asked for.
    let between = (lasted[1] + lasted[2]) / 2 / 1000;
    let waits = format!("wait=1us,{between}us,20s");
    let report = pinwatch(&["report", FILE, "--json", "--what-if", &waits]);
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let waits = report["what_if"]["waits"].as_array().expect("a list");
    let succeed: Vec<_> = waits
        .iter()
        .map(|wait| wait["would_succeed"].as_u64())
        .collect();
    assert_eq!(succeed, [Some(0), Some(2), Some(3)], "{waits:?}");
    let fail: Vec<_> = waits[1..]
        .iter()
        .map(|wait| wait["would_fail"].as_u64())
        .collect();
    assert_eq!(fail, [Some(1), Some(0)], "{waits:?}");
    assert_eq!(report["holds"]["watched"], 3);
    let replayed =
        String::from_utf8(pinwatch(&["replay", FILE, "--as", "metrics"])).expect("UTF-8");
    let counted = "pinwatch_blocker_hold_seconds_count{kind=\"referenced\",memory=\"anon\"} 3";
    assert!(replayed.contains(counted), "{replayed}");
    assert_counts(&daemon.metrics(), &NOTHING_LOST);
}

#[test]
fn every_blocker_has_one_end() {
    if !moves_pages() {
        skip!("this kernel migrates no page of ZONE_MOVABLE");
    }
    for attach in KINDS {
        let daemon = Daemon::start(&["--attach", attach]);
        for args in [
            &["held-all", "--release-after", "20ms"][..],
            &[
                "--hold",
                "weak:3",
                "--pages",
                "64",
                "--release-after",
                "30ms",
            ],
            &[
                "--memory",
                "memfd",
                "--hold",
                "vmsplice:2",
                "--release-after",
                "15ms",
            ],
            // The holders end with their memory.
            &["--pages", "16", "--hold", "vmsplice:3", "--repeat", "5"],
        ] {
            load(args);
        }
        let before = all_ended(&daemon);
        println!("{attach}: {before:?}");
        assert_eq!(before[0], 4.0 + 3.0 + 2.0 + 15.0);
        load(&["held-thp", "--release-after", "20ms"]);
        let after = all_ended(&daemon);
        // 6.1 has no sum of the mappings of a large folio.
        let unclear = f64::from(kernel() == Kernel::Pages);
        assert_eq!((after[0], after[3]), (before[0] + 1.0 - unclear, unclear));
        assert_counts(&daemon.metrics(), &NOTHING_LOST);
    }
}

#[test]
fn what_is_held_for_longer_or_finds_no_room_is_counted() {
    if !moves_pages() {
        skip!("this kernel migrates no page of ZONE_MOVABLE");
    }
    const THREADS: &str = "20";
    let daemon = Daemon::start(&[]);
    load(&[
        "--threads",
        THREADS,
        "--pages",
        "8",
        "--hold",
        "vmsplice:4",
        "--release-after",
        "13s",
    ]);
    let [ended, cut_off, no_room, unclear] = all_ended(&daemon);
    println!("{ended} ended, {cut_off} cut off, {no_room} without room");
    assert_eq!((ended, cut_off + no_room, unclear), (0.0, 80.0, 0.0));
    assert!((1.0..=64.0).contains(&cut_off), "{cut_off}");
    // The table is empty again.
    load(&["held-all", "--release-after", "20ms"]);
    assert_eq!(all_ended(&daemon)[0], 4.0);
}
