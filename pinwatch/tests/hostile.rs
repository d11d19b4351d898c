//! Forged recordings and streams through everything that consumes them: figures at the limits of their
//! types end no command. `cargo xtask fuzz` searches for further ones.

use std::io;
use std::slice::{from_mut, from_ref};

use bytemuck::Zeroable as _;
use jiff::tz::TimeZone;
use pinwatch::evaluation::capture::{self, Capture};
use pinwatch::evaluation::comparability::differences;
use pinwatch::evaluation::compare::{Rules, compare};
use pinwatch::host::machine::Machine;
use pinwatch::model::agent_status::AgentStatus;
use pinwatch::model::filter::Filter;
use pinwatch::model::format::Clock;
use pinwatch::model::in_flight;
use pinwatch::model::session::{Lost, Start};
use pinwatch::model::state::State;
use pinwatch::model::trace::{Pass, Traced};
use pinwatch::model::view::View;
use pinwatch::output::compare::{Shown, html, json, text};
use pinwatch::output::holds;
use pinwatch::output::metrics::text::{self, TextFormat};
use pinwatch::output::report;
use pinwatch::output::tail::{Format, Tail};
use pinwatch::output::top::{Top, draw};
use pinwatch::recording::{End, Header, Writer};
use pinwatch::stream::feed::Update;
use pinwatch::stream::replay::replay;
use pinwatch::stream::wire::decode;
use pinwatch_common::abi::ABI_VERSION;
use pinwatch_common::record::{Pin, PinEvent};
use pinwatch_common::weak::Holder;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tempfile::NamedTempFile;

/// Limits of 64-bit numbers, and return values of pins.
const LIMITS: [u64; 8] = [
    0,
    1,
    u64::MAX,
    i64::MAX as u64,
    i64::MIN as u64,
    u32::MAX as u64,
    -12i64 as u64,
    1 << 62,
];

/// A pin whose figures are all `n`, except the returned pages.
fn traced(n: u64, returned: i64) -> Traced {
    let mut pin = Pin::zeroed();
    bytemuck::cast_slice_mut::<Pin, u64>(from_mut(&mut pin)).fill(n);
    pin.returned = returned;
    pin.ended = 1;
    let pass = Pass {
        passes: n as u32,
        unpinnable: n,
        moved: n,
        failed: n,
        repinned: n,
        migrate_calls: n as u32,
        drains: n as u32,
        isolate_failures: [n as u32; 3],
        phase_ns: [n; 5],
    };
    let event = PinEvent {
        holder: Holder {
            start_ns: n,
            held_ns: n,
            tid: n as u32,
            tgid: n as u32,
            comm: [0xff; 16],
            origin: n as u8,
            ..Holder::NONE
        },
        pin,
        comm: [0xff; 16],
    };
    let passes = vec![pass; (n % 3) as usize];
    Traced { event, passes }
}

fn status(n: u64) -> AgentStatus {
    let mut state = State::empty("6.12", "folios");
    state.in_flight = LIMITS.map(|limit| traced(limit, 0).event.pin).to_vec();
    let mut status = AgentStatus::of(&state);
    status.losses.fill(n);
    status.gup_fast.fill(n);
    (status.before_start, status.events_sent) = (n, n);
    (status.stuck_after_ns, status.now_ns) = (n, n);
    status
}

fn recording(n: u64) -> NamedTempFile {
    let start = Start {
        version: String::new(),
        abi: ABI_VERSION,
        release: "6.12".to_owned(),
        era: "folios".to_owned(),
        wall_offset_ns: n as i64,
        status: Box::new(status(n)),
    };
    let mut header = Header::new(start, None, Machine::default());
    header.yardstick_ns = Some(n);
    let lost = Lost { ring: n, behind: n };
    let end = End {
        lost,
        status: status(n),
        foll_pins: None,
        yardstick_ns: Some(1),
    };
    let file = NamedTempFile::new().expect("a file");
    let mut writer = Writer::new(file.as_file(), &header, false).expect("written");
    for limit in LIMITS {
        let returned = LIMITS.map(|returned| traced(limit, returned as i64));
        writer.pins(&returned).expect("written");
    }
    writer.end(&end).expect("written");
    file
}

fn read(file: &NamedTempFile) -> Capture {
    let rules = [
        "immediate",
        "migrate-max=10,isolate-max=100",
        "forward-progress",
    ];
    let rules = rules.map(|rule| rule.parse().expect("a rule"));
    capture::read(file.path(), &rules, |_| {}).expect("a recording")
}

fn compared(base: &[Capture], new: &[Capture]) {
    let rules = Rules {
        threshold: 0.05,
        run_spread: 0.03,
    };
    let allowed = differences(&base[0], &new[0]);
    let comparison = compare(base, new, rules).expect("comparable");
    let shown = Shown {
        base,
        new,
        comparison: &comparison,
        allowed: &allowed,
    };
    text(&shown, true, &mut io::sink()).expect("written");
    json(&shown).expect("JSON");
    let _ = html(&shown);
}

#[test]
fn reports_and_comparisons_take_any_figure() {
    let genuine = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/recordings/6.12.pw");
    let genuine = capture::read(genuine.as_ref(), &[], |_| {}).expect("a recording");
    for limit in LIMITS {
        let file = recording(limit);
        let [first, second] = [read(&file), read(&file)];
        assert_eq!(first.evidence.pins, 64);
        report::text(&first, &mut io::sink()).expect("written");
        serde_json::to_string(&report::json(&first)).expect("JSON");
        compared(from_ref(&first), from_ref(&second));
        if let Ok(comparison) = compare(
            from_ref(&genuine),
            from_ref(&first),
            Rules {
                threshold: 0.05,
                run_spread: 0.03,
            },
        ) {
            assert!(!comparison.lines.is_empty() || !comparison.not_compared.is_empty());
        }
        let runs = [first, second];
        compared(&runs, &runs);
        let [Capture { state, .. }, _] = runs;
        serde_json::to_string(&View::new(&state)).expect("JSON");
        in_flight::json(&state).expect("JSON");
        for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
            let _ = text::encode(Some(&state), &[], format);
        }
    }
}

/// Moves the cursor, sets a title, turns the text, begins a line, a column and an element.
const NAME: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}1m\u{202e}\r\n\t<i>'\"&";

/// The same in the bytes that a thread's name has.
const COMM: [u8; 16] = *b"\x1b[2J\x07\xe2\x80\xae<i>'\"&\\\0";

/// A recording whose every name is hostile.
fn named(release: &str) -> NamedTempFile {
    let mut hung = traced(7, 0);
    hung.event.comm = COMM;
    let mut state = State::empty("6.12", "folios");
    state.in_flight = vec![hung.event.pin];
    state.stuck_after_ns = 0;
    let start = Start {
        version: NAME.to_owned(),
        abi: ABI_VERSION,
        release: release.to_owned(),
        era: NAME.to_owned(),
        wall_offset_ns: 0,
        status: Box::new(AgentStatus::of(&state)),
    };
    let machine = Machine {
        build: NAME.to_owned(),
        command_line: NAME.to_owned(),
        cpu: NAME.to_owned(),
        zones: [(NAME.to_owned(), 7)].into(),
        thp: [(NAME.to_owned(), NAME.to_owned())].into(),
        hugetlb: [(NAME.to_owned(), 7)].into(),
        clocksource: NAME.to_owned(),
        ..Machine::default()
    };
    let header = Header::new(start, Some(vec![NAME.to_owned(); 2]), machine);
    let file = NamedTempFile::new().expect("a file");
    let mut writer = Writer::new(file.as_file(), &header, false).expect("written");
    let pins = (1..40).map(|n| {
        let event = PinEvent {
            pin: Pin {
                tid: 7,
                tgid: 7,
                requested: 256,
                returned: [256, -12][n % 2],
                start_ns: n as u64 * 1_000_000,
                duration_ns: 1_000 * n as u64,
                passes: 2,
                ended: 1,
                ..Pin::zeroed()
            },
            comm: COMM,
            holder: Holder {
                start_ns: 1,
                comm: COMM,
                ..Holder::NONE
            },
        };
        Traced {
            event,
            passes: Vec::new(),
        }
    });
    writer.pins(&pins.collect::<Vec<_>>()).expect("written");
    let end = End {
        lost: Lost::default(),
        status: AgentStatus::of(&state),
        foll_pins: None,
        yardstick_ns: None,
    };
    writer.end(&end).expect("written");
    file
}

/// Panics if a text for a terminal has a character of a hostile name as it is.
fn assert_is_harmless(what: &str, text: &[u8]) {
    let text = std::str::from_utf8(text).expect("UTF-8");
    for harmful in [
        "\u{1b}[2J",
        "\u{1b}]",
        "\u{7}",
        "\u{9b}",
        "\u{202e}",
        "\r",
        "\t",
    ] {
        assert!(!text.contains(harmful), "{what}: {harmful:?} in {text:?}");
    }
    assert!(text.contains("u{1b}[2J"), "{what} shows no name: {text}");
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).expect("written");
    out
}

#[test]
fn names_in_reports_and_comparisons_control_no_terminal_and_add_no_html() {
    let [base, new] = [named("6.1"), named(NAME)].map(|file| read(&file));
    let report = written(|out| report::text(&new, out));
    assert_is_harmless("report", &report);
    let allowed = differences(&base, &new);
    let rules = Rules {
        threshold: 0.05,
        run_spread: 0.03,
    };
    let comparison = compare(from_ref(&base), from_ref(&new), rules).expect("comparable");
    let shown = Shown {
        base: from_ref(&base),
        new: from_ref(&new),
        comparison: &comparison,
        allowed: &allowed,
    };
    assert_is_harmless("compare", &written(|out| text(&shown, true, out)));
    for (what, page) in [("compare", html(&shown)), ("report", holds::html(&new))] {
        assert!(!page.contains("<i>"), "{what}: {page}");
        assert!(page.contains("&lt;i&gt;"), "{what} shows no name: {page}");
        let harmful = page
            .chars()
            .find(|c| matches!(c, '\u{1b}' | '\u{7}' | '\u{202e}'));
        assert_eq!(harmful, None, "{what}");
    }
}

#[tokio::test]
async fn names_in_tail_and_top_control_no_terminal() {
    let file = named(NAME);
    let mut feed = replay(file.path(), None, Filter::default()).expect("a recording");
    let format = Format {
        json: false,
        in_flight_after: std::time::Duration::ZERO,
        zone: TimeZone::UTC,
        clock: Clock::Time,
    };
    let mut tail = Tail::new(format, Filter::default());
    let mut top = Top::default();
    let mut lines = Vec::new();
    let mut terminal = Terminal::new(TestBackend::new(160, 40)).expect("a terminal");
    while let Some(update) = feed.next().await {
        let update = update.expect("an update");
        tail.update(&update, None, &mut lines).expect("written");
        top.update(update);
        terminal.draw(|frame| draw(&top, frame)).expect("drawn");
        let cells = terminal.backend().buffer().content().iter();
        let screen: String = cells.map(|cell| cell.symbol()).collect();
        let harmful = screen.chars().find(|c| c.is_control() || *c == '\u{202e}');
        assert_eq!(harmful, None, "{screen}");
    }
    tail.end(&mut lines).expect("written");
    assert_is_harmless("tail", &lines);
}

/// `tail` as text and as JSON, and `top`.
fn show(updates: &[Update]) {
    let filter = Filter {
        errno: vec![12],
        ..Filter::default()
    };
    let mut top = Top::default();
    let [mut as_text, mut as_json] = [false, true].map(|json| {
        let format = Format {
            json,
            in_flight_after: std::time::Duration::ZERO,
            zone: TimeZone::UTC,
            clock: Clock::Time,
        };
        Tail::new(format, filter.clone())
    });
    for update in updates {
        as_text
            .update(update, Some((80, 24)), &mut io::sink())
            .expect("written");
        as_json
            .update(update, None, &mut io::sink())
            .expect("written");
        top.update(update.clone());
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal");
        terminal.draw(|frame| draw(&top, frame)).expect("drawn");
    }
    as_text.end(&mut io::sink()).expect("written");
    as_json.end(&mut io::sink()).expect("written");
}

#[tokio::test]
async fn tail_and_top_take_any_figure() {
    for limit in LIMITS {
        let file = recording(limit);
        let filter = Filter {
            failed: true,
            ..Filter::default()
        };
        let mut feed = replay(file.path(), None, filter).expect("a recording");
        let mut updates = Vec::new();
        while let Some(update) = feed.next().await {
            updates.push(update.expect("an update"));
        }
        assert!(matches!(updates.last(), Some(Update::End { .. })));
        show(&updates);
    }
}

#[test]
fn a_hostile_daemon_ends_no_view() {
    let n = u64::MAX;
    let mut view = serde_json::to_value(View::default()).expect("JSON");
    let durations = serde_json::json!([[null, n], [null, n], [n, n], [512, n]]);
    let origin = serde_json::json!({
        "origin": "rdma", "pins": n, "seconds": 1e308, "p50_ns": 1e308, "p99_ns": -1e308,
        "durations": durations, "passes": [[null, n], [1, n]], "passes_sum": n,
    });
    let failures = serde_json::json!({
        "origin": "rdma", "errno": "\u{1b}", "cause": "nomem", "count": n,
    });
    let mut row = serde_json::to_value(in_flight::Row::default()).expect("JSON");
    row["age_seconds"] = 1e308.into();
    row["signature"] = "\u{1b}[2J".into();
    view["origins"] = vec![origin.clone(), origin].into();
    view["failures"] = vec![failures.clone(), failures].into();
    view["oldest"] = vec![row.clone(), row].into();
    view["lost"] = serde_json::json!([["a", n], ["b", n]]);
    view["in_flight"] = n.into();
    let mut tick = |now_ns: u64| {
        view["now_ns"] = now_ns.into();
        let body = serde_json::json!([view, { "ring": n, "behind": n }]);
        let frame = [&[2], body.to_string().as_bytes()].concat();
        decode(&frame).expect("a tick")
    };
    show(&[0, 2_000_000_000, n, 0, n].map(&mut tick));
}
