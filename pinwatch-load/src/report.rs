//! The output: a record per pin and a summary, as text or as JSON lines.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde::{Serialize, Serializer};

use crate::contention::waiters::Call;
use crate::contention::weak_pin::WeakSpan;
use crate::memory::placement::PagesIn;
use crate::spec::{Hold, Memory, Via};
use crate::sys;

/// Text output of more pins than this is the summary only, unless --verbose.
const LINES: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Text,
    EachPin,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Failed(Errno),
    /// The signal killed the thread inside the system call.
    Killed(Signal),
}

/// One pin as user space sees it. `pin` is its number, in the order of return.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub pin: u64,
    pub tid: i32,
    pub via: Via,
    pub memory: Memory,
    pub pages: usize,
    pub expected_pins: u64,
    /// Long-term pins that the load made before, with io_uring.
    pub other_pins: u64,
    pub hold: Hold,
    pub result: Outcome,
    pub errno: Option<i32>,
    /// `CLOCK_MONOTONIC` right before and after the system call.
    pub started_ns: Option<u64>,
    pub ended_ns: Option<u64>,
    pub duration_ns: Option<u64>,
    /// Nanoseconds from the return of the pin to the end of `--hold` (`--release-after`): the last moment at which
    /// the pages were surely held, and the first at which they surely were not.
    pub held_ns: Option<[u64; 2]>,
    /// The longest call of each thread of `--waiters`, right before and after it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_ns: Vec<Call>,
    /// `CLOCK_MONOTONIC` at the end of a `--hold` that pins wait for: at least, and at most.
    pub hold_ended_ns: Option<[u64; 2]>,
    /// Pages whose frame changed: migrated, or copied on write.
    pub moved: Option<u64>,
    pub before: Option<PagesIn>,
    pub after: Option<PagesIn>,
    pub huge_before: Option<u64>,
    pub huge_after: Option<u64>,
    /// The weak pin that was in the way of this one.
    pub weak: Option<WeakSpan>,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    pins: u64,
    ok: u64,
    failed: BTreeMap<String, u64>,
    expected_pins: u64,
    other_pins: u64,
    before: Option<PagesIn>,
    after: Option<PagesIn>,
    seconds: f64,
    interrupted: bool,
}

impl Outcome {
    /// `ok`, `ENOMEM`, `SIGKILL`.
    pub fn name(self) -> String {
        match self {
            Self::Ok => "ok".to_owned(),
            Self::Failed(errno) => format!("{errno:?}"),
            Self::Killed(signal) => signal.as_str().to_owned(),
        }
    }

    pub fn errno(self) -> Option<i32> {
        match self {
            Self::Failed(errno) => Some(errno as i32),
            Self::Ok | Self::Killed(_) => None,
        }
    }

    fn sentence(self, via: Via) -> String {
        match (self, via) {
            (Self::Ok, Via::IoUring | Via::Xdp | Via::Rdma | Via::RdmaWrite) => {
                "registered".to_owned()
            }
            (Self::Ok, Via::Udmabuf) => "created".to_owned(),
            (Self::Ok, Via::Vfio) => "mapped".to_owned(),
            (Self::Ok, Via::Odirect | Via::ProcessVm) => "read".to_owned(),
            (Self::Failed(errno), _) => format!("failed: {errno:?} ({})", sys::meaning(errno)),
            (Self::Killed(signal), _) => format!("killed by {signal}"),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// Prints records as they arrive, and keeps the summary.
pub struct Report<W> {
    out: W,
    style: Style,
    each: bool,
    started: Instant,
    progress: Instant,
    planned: u64,
    summary: Summary,
}

impl<W: Write> Report<W> {
    pub fn new(out: W, style: Style, planned: u64) -> Self {
        let each = style != Style::Text || planned <= LINES;
        let now = Instant::now();
        Self {
            out,
            style,
            each,
            started: now,
            progress: now,
            planned,
            summary: Summary::default(),
        }
    }

    /// Moves the start of the summary's duration to an earlier time.
    pub fn since(mut self, started: Instant) -> Self {
        self.started = started;
        self
    }

    /// Numbers the record and prints it.
    pub fn pin(&mut self, mut record: Record) -> io::Result<()> {
        self.summary.add(&record);
        record.pin = self.summary.pins;
        match self.style {
            Style::Json => self.json(&record),
            Style::Text | Style::EachPin if self.each => {
                writeln!(self.out, "{}", line(&record))?;
                self.out.flush()
            }
            Style::Text | Style::EachPin => Ok(()),
        }
    }

    /// Prints the progress on stderr every two seconds, unless each pin is printed.
    pub fn tick(&mut self) {
        if !self.each && self.progress.elapsed() >= Duration::from_secs(2) {
            self.progress = Instant::now();
            eprintln!(
                "{} of {} pins, {}",
                self.summary.pins,
                self.planned,
                self.summary.outcomes()
            );
        }
    }

    pub fn finish(mut self, interrupted: bool) -> io::Result<()> {
        #[derive(Serialize)]
        struct Last<'a> {
            summary: &'a Summary,
        }
        self.summary.seconds = self.started.elapsed().as_secs_f64();
        self.summary.interrupted = interrupted;
        let summary = std::mem::take(&mut self.summary);
        match self.style {
            Style::Json => self.json(&Last { summary: &summary }),
            Style::Text | Style::EachPin => writeln!(self.out, "{}", summary.line()),
        }
    }

    fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        writeln!(self.out)?;
        self.out.flush()
    }
}

impl Summary {
    fn add(&mut self, record: &Record) {
        self.pins += 1;
        self.expected_pins += record.expected_pins;
        self.other_pins += record.other_pins;
        match record.result {
            Outcome::Ok => self.ok += 1,
            outcome => *self.failed.entry(outcome.name()).or_default() += 1,
        }
        add_pages(&mut self.before, record.before.as_ref());
        add_pages(&mut self.after, record.after.as_ref());
    }

    /// `998 ok, 2 ENOMEM`
    fn outcomes(&self) -> String {
        self.failed
            .iter()
            .fold(format!("{} ok", self.ok), |text, (name, pins)| {
                format!("{text}, {pins} {name}")
            })
    }

    fn line(&self) -> String {
        let stopped = if self.interrupted {
            ", interrupted"
        } else {
            ""
        };
        let mut text = format!(
            "{} pins: {}{stopped}, {:.1} s",
            self.pins,
            self.outcomes(),
            self.seconds
        );
        if let Some(pages_in) = &self.after {
            text += &format!("; pages now: {}", list(pages_in));
        }
        text
    }
}

/// A closed pipe is no error: its reader has seen enough.
pub fn broken_pipe_is_fine(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn add_pages(sum: &mut Option<PagesIn>, pages_in: Option<&PagesIn>) {
    for (place, pages) in pages_in.into_iter().flatten() {
        *sum.get_or_insert_default()
            .entry(place.clone())
            .or_default() += pages;
    }
}

fn line(record: &Record) -> String {
    let mut text = format!(
        "#{:<4} tid {:<6} {} {} pages: {}",
        record.pin,
        record.tid,
        record.via.name(),
        record.pages,
        record.result.sentence(record.via)
    );
    if let Some(ns) = record.duration_ns {
        text += &format!(", {}", duration(Duration::from_nanos(ns)));
    }
    let places = [
        ("before", &record.before, record.huge_before),
        ("after", &record.after, record.huge_after),
    ];
    for (when, pages_in, huge) in places {
        if let Some(pages_in) = pages_in {
            text += &format!(", {when} {}", list(pages_in));
        }
        if let Some(huge) = huge {
            text += &format!(" ({huge} in huge pages)");
        }
    }
    if let Some([_, ns]) = record.held_ns {
        text += &format!(", held for {} more", duration(Duration::from_nanos(ns)));
    }
    if let Some(ns) = record
        .waits_ns
        .iter()
        .map(|[began, ended]| ended - began)
        .max()
    {
        text += &format!(
            ", {} waiters, the longest call took {}",
            record.waits_ns.len(),
            duration(Duration::from_nanos(ns))
        );
    }
    if record.expected_pins > 1 {
        text += &format!(", {} pins expected", record.expected_pins);
    }
    text
}

/// `DMA32 3 Movable 253`
fn list(pages_in: &PagesIn) -> String {
    pages_in
        .iter()
        .map(|(place, pages)| format!("{place} {pages}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn duration(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        ..1e3 => format!("{us:.1} us"),
        ..1e6 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(result: Outcome) -> Record {
        Record {
            pin: 0,
            tid: 211,
            via: Via::IoUring,
            memory: Memory::Touched,
            pages: 256,
            expected_pins: 1,
            other_pins: 1,
            hold: Hold::LongTerm(2),
            result,
            errno: result.errno(),
            started_ns: Some(7_000_000),
            ended_ns: Some(7_812_400),
            duration_ns: Some(812_400),
            held_ns: None,
            waits_ns: Vec::new(),
            hold_ended_ns: None,
            moved: Some(255),
            before: Some(PagesIn::from([("Movable".to_owned(), 256)])),
            after: Some(PagesIn::from([
                ("Normal".to_owned(), 255),
                ("Movable".to_owned(), 1),
            ])),
            huge_before: None,
            huge_after: None,
            weak: None,
        }
    }

    fn printed(style: Style, planned: u64, records: &[Record]) -> String {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, style, planned);
        for record in records {
            report.pin(record.clone()).unwrap();
        }
        report.finish(false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_says_what_was_returned_and_where_the_pages_are() {
        let text = printed(
            Style::Text,
            2,
            &[record(Outcome::Ok), record(Outcome::Failed(Errno::ENOMEM))],
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "#1    tid 211    io_uring 256 pages: registered, 812.4 us, before Movable 256, after Movable 1 Normal 255"
        );
        assert!(lines[1].contains("failed: ENOMEM (Cannot allocate memory), 812.4 us"));
        assert!(
            lines[2].starts_with("2 pins: 1 ok, 1 ENOMEM, 0.0 s; pages now: Movable 2 Normal 510")
        );
    }

    #[test]
    fn many_pins_are_only_summed() {
        assert_eq!(
            printed(Style::Text, 21, &[record(Outcome::Ok)])
                .lines()
                .count(),
            1
        );
        assert_eq!(
            printed(Style::EachPin, 21, &[record(Outcome::Ok)])
                .lines()
                .count(),
            2
        );
    }

    #[test]
    fn json_has_an_object_per_line() {
        let text = printed(Style::Json, 1, &[record(Outcome::Failed(Errno::ENOMEM))]);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["result"], "ENOMEM");
        assert_eq!(lines[0]["errno"], 12);
        assert_eq!(lines[0]["via"], "io_uring");
        assert_eq!(lines[0]["hold"], "longterm:2");
        assert_eq!(lines[1]["summary"]["other_pins"], 1);
        let times = ["started_ns", "ended_ns", "duration_ns"].map(|time| lines[0][time].as_u64());
        assert_eq!(times, [7_000_000, 7_812_400, 812_400].map(Some));
        assert_eq!(lines[0]["before"]["Movable"], 256);
        assert_eq!(lines[1]["summary"]["failed"]["ENOMEM"], 1);
    }
}
