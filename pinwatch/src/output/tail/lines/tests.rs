use std::collections::BTreeSet;

use bytemuck::Zeroable as _;
use pinwatch_common::cause::PassOutcome;
use pinwatch_common::record::{Origin, Pin};
use pinwatch_common::weak::Holder;
use serde_json::Value;

use super::*;
use crate::model::thread::Thread;

fn tail(json: bool) -> Tail {
    let format = Format {
        json,
        in_flight_after: Duration::from_secs(1),
        zone: TimeZone::UTC,
        clock: Clock::Time,
    };
    Tail::new(format, Filter::default())
}

fn start() -> Update {
    Update::Start(Start {
        version: "0.1.0".to_owned(),
        abi: 1,
        release: "6.12.0".to_owned(),
        era: "folios".to_owned(),
        wall_offset_ns: 1_000_000_000,
        status: Default::default(),
    })
}

fn pin(returned: i64) -> PinEvent {
    PinEvent {
        holder: Holder::NONE,
        pin: Pin {
            start_ns: 3_000_000_000,
            duration_ns: 1_500_000,
            tgid: 42,
            requested: 256,
            returned,
            passes: 2,
            origin: 4,
            outcome: PassOutcome::Busy as u8,
            ..Pin::zeroed()
        },
        comm: *b"evil\x1b[2J\0\0\0\0\0\0\0\0",
    }
}

fn tick(age_seconds: f64) -> Update {
    let row = Row {
        age_seconds,
        start_ns: 5,
        tid: 43,
        pid: 42,
        origin: "vfio".to_owned(),
        activity: "faulting pages in".to_owned(),
        thread: Thread {
            comm: Some("hung".to_owned()),
            ..Thread::default()
        },
        ..Row::default()
    };
    Update::Tick {
        view: Box::new(View {
            oldest: vec![row],
            ..View::default()
        }),
        lost: Lost::default(),
    }
}

fn text(tail: &mut Tail, updates: &[Update], size: Size) -> String {
    let mut out = Vec::new();
    for update in updates {
        tail.update(update, size, &mut out).unwrap();
    }
    String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap()
}

#[test]
fn a_line_per_pin_in_columns() {
    let shown = text(
        &mut tail(false),
        &[start(), Update::Pins(vec![pin(256), pin(-12), pin(16)])],
        None,
    );
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines,
        [
            "TIME         PROCESS             PID ORIGIN    PAGES PASSES  UNPIN MOVED/LEFT DURATION RESULT",
            "00:00:04.001 evil\\u{1b}[2J        42 vfio        256      2      0        0/0   1.50ms ok",
            "00:00:04.001 evil\\u{1b}[2J        42 vfio        256      2      0        0/0   1.50ms ENOMEM migrate_busy",
            "00:00:04.001 evil\\u{1b}[2J        42 vfio        256      2      0        0/0   1.50ms ok, 16 pages",
        ]
    );
}

#[test]
fn the_header_comes_again_and_lines_fit() {
    let mut tail = tail(false);
    let shown = text(
        &mut tail,
        &[start(), Update::Pins(vec![pin(256); 30])],
        Some((80, 12)),
    );
    assert_eq!(shown.matches("TIME").count(), 3, "{shown}");
    assert!(
        shown.lines().all(|line| line.chars().count() <= 80),
        "{shown}"
    );
    let wider = text(&mut tail, &[Update::Pins(vec![pin(256)])], Some((200, 50)));
    assert!(wider.starts_with("TIME"), "another width: {wider}");
}

#[test]
fn pins_in_flight_come_again_as_their_age_doubles() {
    let mut tail = tail(false);
    let ages = [0.6, 1.1, 1.6, 2.1, 2.6, 4.1, 4.6, 9.5];
    let updates: Vec<_> = ages.map(tick).into();
    let shown = text(&mut tail, &[&[start()], &updates[..]].concat(), None);
    let at: Vec<_> = shown
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().nth(8).unwrap())
        .collect();
    assert_eq!(at, ["1.10s", "2.60s", "9.50s"], "{shown}");
    assert!(shown.contains("in flight: faulting pages in"));
    let mut out = Vec::new();
    tail.end(&mut out).unwrap();
    assert_eq!(out, b"0 pins, 0 failed, 1 still in flight; none lost\n");
}

#[test]
fn the_summary_says_what_was_lost_where() {
    let mut tail = tail(false);
    let lost = Lost { ring: 3, behind: 4 };
    text(
        &mut tail,
        &[
            start(),
            Update::Pins(vec![pin(1), pin(-12)]),
            Update::End {
                lost,
                status: Box::default(),
            },
        ],
        None,
    );
    let mut out = Vec::new();
    tail.end(&mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "2 pins, 1 failed, longest 1.50ms; 7 events lost: 3 while the ring buffer was full, 4 because this tail fell behind\n"
    );
}

fn refusal() -> Refusal {
    Refusal {
        at_ns: 4_000_000_000,
        tid: 8,
        tgid: 7,
        comm: *b"fio\0\0\0\0\0\0\0\0\0\0\0\0\0",
        errno: 12,
        origin: Origin::IoUring as u8,
        reserved: [0; 3],
    }
}

#[test]
fn a_refusal_has_a_line() {
    let updates = [start(), Update::Refusals(vec![refusal()])];
    let lines = text(&mut tail(false), &updates, None);
    let line = lines.lines().last().unwrap();
    let columns: Vec<_> = line.split_whitespace().skip(1).collect();
    let expected = [
        "fio", "7", "io_uring", "-", "0", "0", "0/0", "ENOMEM", "refused:", "memlock",
    ];
    assert_eq!(columns, expected);
}

/// The names of all fields, those of objects inside with a dot.
fn fields(value: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let name = format!("{prefix}{key}");
        fields(value, &format!("{name}."), into);
        if !value.is_object() {
            into.insert(name);
        }
    }
}

#[test]
fn every_field_of_json_is_documented_and_no_other() {
    let mut tail = tail(true);
    let mut out = text(
        &mut tail,
        &[
            start(),
            Update::Pins(vec![pin(-12)]),
            Update::Refusals(vec![refusal()]),
            tick(2.0),
        ],
        None,
    )
    .into_bytes();
    tail.end(&mut out).unwrap();
    let lines = String::from_utf8(out).unwrap();
    let objects: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<_> = objects
        .iter()
        .map(|object| object["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["start", "pin", "refusal", "in_flight", "summary"]);
    assert_eq!(objects[1]["time"], "1970-01-01T00:00:04.0015Z");

    let doc = include_str!("../../../../../docs/tail.md");
    for (kind, object) in types.iter().zip(&objects) {
        let section = doc
            .split_once(&format!("\n### `{kind}`\n"))
            .unwrap_or_else(|| panic!("no section on {kind}"))
            .1;
        let section = section.split("\n#").next().unwrap();
        let cells = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let documented: BTreeSet<_> = cells
            .flat_map(|cell| cell.split(", "))
            .map(|name| name.trim_matches('`').to_owned())
            .collect();
        let mut there = BTreeSet::new();
        fields(object, "", &mut there);
        there.remove("type");
        assert_eq!(documented, there, "docs/tail.md on {kind}");
    }
}
