//! Everything that consumes a recording or a daemon's stream. It may find an error, and must not panic.

use std::io;
use std::slice::from_ref;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::tz::TimeZone;
use pinwatch::evaluation::capture::{self, Capture};
use pinwatch::evaluation::comparability::differences;
use pinwatch::evaluation::compare::{Rules, compare};
use pinwatch::evaluation::what_if::Rule;
use pinwatch::model::agent_status::AgentStatus;
use pinwatch::model::filter::Filter;
use pinwatch::model::format::Clock;
use pinwatch::model::in_flight;
use pinwatch::model::state::State;
use pinwatch::model::trace::Assembler;
use pinwatch::model::view::View;
use pinwatch::output::compare::{Shown, html, json, text};
use pinwatch::output::metrics::text::{self, TextFormat};
use pinwatch::output::report;
use pinwatch::output::tail::{Format, Tail};
use pinwatch::output::top::{Top, draw};
use pinwatch::recording::{End, Writer};
use pinwatch::stream::feed::Update;
use pinwatch::stream::replay::replay;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::file::MemoryFile;
use crate::runtime;

/// A recording that the consumed one is compared with.
static REFERENCE: LazyLock<Capture> = LazyLock::new(|| {
    let file = include_bytes!("../../tests/data/recordings/6.12.pw");
    read(&MemoryFile::new(file)).expect("a recording")
});

/// Uses a recording as one of the commands does. The bytes of the file decide which, so that an input always
/// takes the same way and a changed one often takes another.
pub fn recording(file: &[u8]) {
    let command = crc32fast::hash(file) % 4;
    let file = MemoryFile::new(file);
    if command == 0 {
        return runtime().block_on(replayed(&file));
    }
    let Some(capture) = read(&file) else {
        return;
    };
    match command {
        1 => {
            reported(&capture);
            state(&capture.state);
        }
        2 => {
            comparison(from_ref(&capture), from_ref(&REFERENCE));
            comparison(from_ref(&REFERENCE), from_ref(&capture));
        }
        _ => {
            let again = read(&file).expect("it was read before");
            let twice = [capture, again];
            comparison(&twice, &twice);
        }
    }
}

fn reported(capture: &Capture) {
    report::text(capture, &mut io::sink()).expect("written");
    serde_json::to_writer(io::sink(), &report::json(capture)).expect("JSON");
}

fn read(file: &MemoryFile) -> Option<Capture> {
    let rules = [
        "immediate",
        "migrate-max=10,isolate-max=100",
        "forward-progress",
    ];
    let rules = rules.map(|rule| rule.parse::<Rule>().expect("a valid rule"));
    capture::read(&file.path(), &rules, |_| {}).ok()
}

fn comparison(base: &[Capture], new: &[Capture]) {
    let allowed = differences(&base[0], &new[0]);
    let rules = Rules {
        threshold: 0.05,
        run_spread: 0.03,
    };
    let Ok(comparison) = compare(base, new, rules) else {
        return;
    };
    let shown = Shown {
        base,
        new,
        comparison: &comparison,
        allowed: &allowed,
    };
    for all in [false, true] {
        text(&shown, all, &mut io::sink()).expect("written");
    }
    json(&shown).expect("JSON");
    let _ = html(&shown);
}

/// Shows a state as the daemon does.
pub fn state(state: &State) {
    serde_json::to_string(&View::new(state)).expect("JSON");
    serde_json::to_string(&AgentStatus::of(state)).expect("JSON");
    in_flight::json(state).expect("JSON");
    for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
        let _ = text::encode(Some(state), &[], format);
    }
}

async fn replayed(file: &MemoryFile) {
    let failed = Filter {
        comm: vec!["qemu".to_owned(), "pinwatch".to_owned()],
        errno: vec![12, 14],
        ..Filter::default()
    };
    // The slowest speed that the command line takes.
    for (filter, speed) in [(Filter::default(), None), (failed, Some(0.001))] {
        let Ok(mut feed) = replay(&file.path(), speed, filter.clone()) else {
            return;
        };
        let mut screens = Screens::new(filter);
        // No recording of this size has a year; a forged one may have centuries.
        let year = Duration::from_secs(366 * 24 * 3600);
        let show = async {
            while let Some(Ok(update)) = feed.next().await {
                screens.update(update);
            }
        };
        let _ = tokio::time::timeout(year, show).await;
        screens.end();
    }
}

/// The commands that show a feed: `tail` as text and as JSON, `top`, and `record`.
pub struct Screens {
    text: Tail,
    json: Tail,
    top: Top,
    assembler: Assembler,
    writer: Option<Writer<io::Sink>>,
}

impl Screens {
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        let format = |json| Format {
            json,
            in_flight_after: Duration::ZERO,
            zone: TimeZone::UTC,
            clock: Clock::Time,
        };
        Self {
            text: Tail::new(format(false), filter.clone()),
            json: Tail::new(format(true), filter),
            top: Top::default(),
            assembler: Assembler::default(),
            writer: None,
        }
    }

    pub fn update(&mut self, update: Update) {
        for size in [None, Some((80, 24)), Some((1, 1))] {
            self.text
                .update(&update, size, &mut io::sink())
                .expect("written");
        }
        self.json
            .update(&update, None, &mut io::sink())
            .expect("written");
        self.record(&update);
        let draws = !matches!(update, Update::Pins(_));
        self.top.update(update);
        if draws {
            self.draw(&[(80, 24)]);
        }
    }

    fn draw(&self, sizes: &[(u16, u16)]) {
        for (width, height) in sizes {
            let mut terminal =
                Terminal::new(TestBackend::new(*width, *height)).expect("a terminal");
            terminal
                .draw(|frame| draw(&self.top, frame))
                .expect("drawn");
        }
    }

    /// Writes the update into a recording. Its writer may refuse it.
    fn record(&mut self, update: &Update) {
        match update {
            Update::Start(start) => {
                let header = pinwatch::recording::Header::new(
                    start.clone(),
                    None,
                    pinwatch::host::machine::Machine::default(),
                );
                self.writer = Writer::new(io::sink(), &header, false).ok();
            }
            Update::Pins(pins) => {
                let pins = pins.iter();
                let pins: Vec<_> = pins.filter_map(|pin| self.assembler.take(*pin)).collect();
                if let Some(writer) = &mut self.writer {
                    writer.pins(&pins).expect("pins fit into frames");
                }
            }
            Update::Holds(holds) => {
                if let Some(writer) = &mut self.writer {
                    writer.holds(holds).expect("holds fit into frames");
                }
            }
            Update::Tick { .. } | Update::Refusals(_) | Update::WallOffset(_) => {}
            Update::End { lost, status } => {
                if let Some(writer) = self.writer.take() {
                    let end = End {
                        lost: *lost,
                        status: (**status).clone(),
                        ..End::default()
                    };
                    let _ = writer.end(&end);
                }
            }
        }
    }

    pub fn end(&self) {
        self.text.end(&mut io::sink()).expect("written");
        self.json.end(&mut io::sink()).expect("written");
        self.draw(&[(200, 60), (1, 1)]);
    }
}
