//! What the screen shows, at 80 columns and 24 lines.

use bytemuck::Zeroable as _;
use crossterm::event::{KeyCode, KeyEvent};
use pinwatch_common::histogram::{duration_bucket, duration_upper_ns};
use pinwatch_common::record::{Pin, PinEvent};
use pinwatch_common::weak::Holder;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::{After, draw};
use super::*;
use crate::model::blockers::Blockers;
use crate::model::holders::{BlockedRow, HolderRow};
use crate::model::in_flight;
use crate::model::stall::Behind;
use crate::model::thread::Thread;
use crate::model::view::Failures;

fn screen(top: &Top) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw(top, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(80);
    lines
        .map(|line| line.iter().map(|cell| cell.symbol()).collect())
        .collect()
}

fn line(top: &Top, containing: &str) -> String {
    let lines = screen(top);
    let found = lines.iter().find(|line| line.contains(containing));
    found
        .unwrap_or_else(|| panic!("no {containing:?} in\n{}", lines.join("\n")))
        .clone()
}

fn shows(top: &Top, text: &str) -> bool {
    screen(top).iter().any(|line| line.contains(text))
}

fn press(top: &mut Top, codes: &[KeyCode]) {
    for code in codes {
        assert_eq!(top.key(KeyEvent::from(*code)), After::Draw);
    }
}

fn pins(tgid: u32, comm: &[u8; 4], count: usize, duration_ns: u64, returned: i64) -> Update {
    let mut name = [0; 16];
    name[..4].copy_from_slice(comm);
    let pin = Pin {
        tgid,
        duration_ns,
        returned,
        passes: 2,
        ..Pin::zeroed()
    };
    Update::Pins(vec![
        PinEvent {
            pin,
            comm: name,
            holder: Holder::NONE
        };
        count
    ])
}

fn tick(seconds: u64, pins: u64) -> Update {
    let upper = duration_upper_ns(duration_bucket(50_000));
    let view = View {
        now_ns: seconds * 1_000_000_000,
        origins: vec![Origin {
            origin: "vfio".to_owned(),
            pins,
            durations: vec![(upper, pins)],
            passes_sum: 2 * pins,
            ..Origin::default()
        }],
        failures: vec![Failures {
            origin: "vfio".to_owned(),
            errno: "ENOMEM".to_owned(),
            cause: "migrate_busy".to_owned(),
            count: 3,
        }],
        blockers: vec![Blockers {
            kind: "pinned".to_owned(),
            memory: "anon".to_owned(),
            folios: 12,
            ..Blockers::default()
        }],
        blocked: vec![BlockedRow {
            holder: HolderRow {
                comm: "backup\u{1b}[2J".to_owned(),
                pid: 77,
                held_ns: 5_020_000_000,
                ..HolderRow::default()
            },
            holds: true,
            ..BlockedRow::default()
        }],
        in_flight: 1,
        oldest: vec![in_flight::Row {
            age_seconds: 75.0,
            stuck: true,
            activity: "looping on isolation: 41000 passes, 1 unpinnable in each".to_owned(),
            origin: "rdma".to_owned(),
            pid: 4242,
            thread: Thread {
                comm: Some("hung\u{1b}[2J".to_owned()),
                ..Thread::default()
            },
            passes: 41_000,
            behind: Some(Behind {
                uninterruptible: 9,
                mmap_lock: Some(7),
            }),
            ..in_flight::Row::default()
        }],
        ..View::default()
    };
    Update::Tick {
        view: Box::new(view),
        lost: Lost { ring: 0, behind: 7 },
    }
}

fn top() -> Top {
    counting(Clock::Time)
}

fn counting(clock: Clock) -> Top {
    let mut top = Top::new(clock);
    top.update(tick(1, 10));
    top.update(pins(11, b"qemu", 6, 20_000, 16));
    top.update(pins(12, b"dpdk", 2, 3_000_000, -12));
    top.update(tick(3, 18));
    top
}

#[test]
fn pins_in_flight_come_first_and_cannot_move_the_cursor() {
    let hung = line(&top(), "4242");
    assert!(hung.contains("75.0s") && hung.contains("rdma"), "{hung}");
    assert!(hung.contains("hung\\u{1b}[2J"), "{hung}");
    assert!(hung.contains("looping on isolation"), "{hung}");
    assert!(shows(
        &top(),
        "IN FLIGHT: 1; 7 other threads of their processes wait"
    ));
    assert!(shows(
        &top(),
        "in the way: pinned anon 12; held by backup\\u{1b}[2J[77] for 5.02s"
    ));
    let lines = screen(&top());
    let at = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(at("IN FLIGHT: 1") < at("PROCESSES: 2"));
    assert!(at("PROCESSES: 2") < at("LATENCY"));
}

#[test]
fn counted_instructions_are_never_shown_as_time() {
    let top = counting(Clock::Instructions);
    for text in ["75.0G ", "20.0k ", "durations in instructions", "≤ 100M "] {
        assert!(shows(&top, text), "{text}: {:?}", screen(&top));
    }
    for unit in ["us", "ms"] {
        let is_time = |word: &str| {
            word.strip_suffix(unit)
                .is_some_and(|n| n.parse::<f64>().is_ok())
        };
        let lines = screen(&top);
        let mut words = lines.iter().flat_map(|line| line.split_whitespace());
        assert!(!words.any(is_time), "{lines:?}");
    }
}

#[test]
fn rates_and_figures_by_process_and_by_origin() {
    let mut top = top();
    assert!(shows(&top, "4 pins/s"), "8 pins in 2 seconds");
    assert!(shows(
        &top,
        "18 pins, 3 failed: migrate_busy 3; 7 events lost"
    ));
    let words = |line: String| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let qemu = words(line(&top, "qemu"));
    assert_eq!(qemu[..5], ["qemu", "11", "3", "6", "0"]);
    assert_eq!(qemu[7..], ["20.0us", "2.00"]);
    let dpdk = words(line(&top, "dpdk"));
    assert_eq!(dpdk[..5], ["dpdk", "12", "1", "2", "2"]);
    press(&mut top, &[KeyCode::Tab]);
    let vfio = words(line(&top, "vfio"));
    assert_eq!(vfio[..4], ["vfio", "4", "18", "3"]);
    assert!(!shows(&top, "qemu"));
}

#[test]
fn keys_sort_find_pause_and_help() {
    let mut top = top();
    let order = |top: &Top| {
        top.rows()
            .iter()
            .filter_map(|group| group.pid)
            .collect::<Vec<_>>()
    };
    assert_eq!(order(&top), [11, 12], "by rate");
    press(&mut top, &[KeyCode::Char('s'), KeyCode::Char('s')]);
    assert_eq!(order(&top), [12, 11], "by failures");
    assert!(shows(&top, "▼FAILED"));

    press(
        &mut top,
        &[
            KeyCode::Char('/'),
            KeyCode::Char('q'),
            KeyCode::Char('e'),
            KeyCode::Enter,
        ],
    );
    assert_eq!(order(&top), [11]);
    assert!(!shows(&top, "4242"), "pins in flight are searched too");
    press(&mut top, &[KeyCode::Esc]);
    assert_eq!(order(&top).len(), 2);

    press(&mut top, &[KeyCode::Char('p')]);
    top.update(tick(5, 1000));
    assert!(shows(&top, "PAUSED") && shows(&top, "18 pins"));
    press(&mut top, &[KeyCode::Char('p')]);
    assert!(shows(&top, "1000 pins"));

    press(&mut top, &[KeyCode::Char('?')]);
    assert!(shows(&top, "sort by the next column"));
    press(&mut top, &[KeyCode::Esc]);
    assert!(!shows(&top, "sort by the next column"));
    assert_eq!(top.key(KeyEvent::from(KeyCode::Char('q'))), After::Quit);
}

#[test]
fn the_heat_map_has_what_ended_between_two_looks() {
    let mut top = top();
    assert!(line(&top, "≤ 100us").ends_with('█'));
    assert!(!line(&top, "≤ 10us").contains('█'));
    top.update(tick(5, 18));
    let row = line(&top, "≤ 100us");
    assert!(row.ends_with("█ "), "nothing ended since: {row}");
}

#[test]
fn any_size_can_be_drawn() {
    for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(&top(), frame)).unwrap();
    }
}
