//! The lines: turns updates into text.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pinwatch_common::record::PinEvent;
use serde::Serialize;

use super::columns::{Layout, Line};
use crate::model::filter::Filter;
use crate::model::format::duration;
use crate::model::in_flight::Row;
use crate::model::pin_json::Ended;
use crate::model::session::{Lost, Start};
use crate::model::view::View;
use crate::stream::feed::Update;

const FAILED: Style = AnsiColor::Red.on_default();
const OLD: Style = AnsiColor::Yellow.on_default();
const HEADER: Style = Style::new().bold();

/// How lines are written.
#[derive(Clone, Debug)]
pub struct Format {
    /// One JSON object per line instead of columns.
    pub json: bool,
    /// Age from which a pin in flight gets lines.
    pub in_flight_after: Duration,
    pub zone: TimeZone,
}

/// The terminal's size, columns and lines; none where there is no terminal.
pub type Size = Option<(u16, u16)>;

/// What is remembered from line to line.
pub struct Tail {
    format: Format,
    filter: Filter,
    start: Option<Start>,
    layout: Layout,
    size: Size,
    /// Until the header is due again; none before the first.
    lines_left: Option<u16>,
    /// The age at which a pin in flight is due again, by thread and start.
    due: HashMap<(u32, u64), f64>,
    summary: Summary,
}

/// What was shown, and what not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub pins: u64,
    pub failed: u64,
    pub longest_ns: u64,
    /// Still in flight at the last look, with the filter.
    pub in_flight: u64,
    pub lost: Lost,
}

/// Objects of `--json`, told apart by `type`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Object<'a> {
    Start {
        version: &'a str,
        abi: u32,
        release: &'a str,
        era: &'a str,
        wall_offset_ns: i64,
    },
    Pin(&'a Ended),
    InFlight {
        time: Timestamp,
        #[serde(flatten)]
        row: &'a Row,
    },
    Summary(&'a Summary),
}

impl Tail {
    #[must_use]
    pub fn new(format: Format, filter: Filter) -> Self {
        Self {
            format,
            filter,
            start: None,
            layout: Layout::new(None),
            size: None,
            lines_left: None,
            due: HashMap::new(),
            summary: Summary::default(),
        }
    }

    /// Writes what an update gives, for a terminal of a size.
    pub fn update(&mut self, update: &Update, size: Size, out: &mut impl Write) -> io::Result<()> {
        match update {
            Update::Start(start) => self.begin(start, size, out),
            Update::Pins(pins) => pins.iter().try_for_each(|pin| self.ended(pin, size, out)),
            Update::Tick { view, lost } => {
                self.summary.lost = *lost;
                self.in_flight(view, size, out)
            }
            Update::End { lost, .. } => {
                self.summary.lost = *lost;
                Ok(())
            }
        }
    }

    fn begin(&mut self, start: &Start, size: Size, out: &mut impl Write) -> io::Result<()> {
        self.start = Some(start.clone());
        if self.format.json {
            let Start {
                version,
                abi,
                release,
                era,
                wall_offset_ns,
                status: _,
            } = start;
            let start = Object::Start {
                version,
                abi: *abi,
                release,
                era,
                wall_offset_ns: *wall_offset_ns,
            };
            return json(out, &start);
        }
        self.head(size, out)
    }

    fn ended(&mut self, pin: &PinEvent, size: Size, out: &mut impl Write) -> io::Result<()> {
        let pin = Ended::new(pin, self.wall_offset_ns());
        self.summary.pins += 1;
        self.summary.failed += u64::from(!pin.ok);
        self.summary.longest_ns = self.summary.longest_ns.max(pin.duration_ns);
        if self.format.json {
            return json(out, &Object::Pin(&pin));
        }
        let style = if pin.ok { Style::new() } else { FAILED };
        self.line(&pin.into(), style, size, out)
    }

    fn in_flight(&mut self, view: &View, size: Size, out: &mut impl Write) -> io::Result<()> {
        let rows: Vec<_> = view
            .oldest
            .iter()
            .filter(|row| self.filter.in_flight(row))
            .collect();
        self.summary.in_flight = rows.len() as u64;
        let now = i128::from(view.now_ns) + i128::from(self.wall_offset_ns());
        let time = Timestamp::from_nanosecond(now).unwrap_or_default();
        let mut due = HashMap::new();
        for row in rows {
            let age = row.age_seconds;
            let key = (row.tid, row.start_ns);
            let first = self.format.in_flight_after.as_secs_f64();
            let at = self.due.get(&key).copied().unwrap_or(first);
            due.insert(key, if age < at { at } else { age * 2.0 });
            if age < at {
                continue;
            }
            if self.format.json {
                json(out, &Object::InFlight { time, row })?;
            } else {
                self.line(&Line::in_flight(row, time), OLD, size, out)?;
            }
        }
        self.due = due;
        Ok(())
    }

    /// What was shown, and what not: the last line.
    pub fn end(&self, out: &mut impl Write) -> io::Result<()> {
        if self.format.json {
            return json(out, &Object::Summary(&self.summary));
        }
        let Summary {
            pins,
            failed,
            longest_ns,
            in_flight,
            lost,
        } = self.summary;
        write!(out, "{pins} pins, {failed} failed")?;
        if pins > 0 {
            write!(out, ", longest {}", duration(longest_ns))?;
        }
        if in_flight > 0 {
            write!(out, ", {in_flight} still in flight")?;
        }
        match lost.total() {
            0 => writeln!(out, "; none lost"),
            total => writeln!(
                out,
                "; {total} more not shown: {} while the ring buffer was full, {} because this tail fell behind",
                lost.ring, lost.behind
            ),
        }
    }

    /// A line, and a header before it where one is due.
    fn line(
        &mut self,
        line: &Line,
        style: Style,
        size: Size,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if size != self.size || self.lines_left == Some(0) {
            self.head(size, out)?;
        }
        self.lines_left = self.lines_left.map(|left| left.saturating_sub(1));
        let text = self.layout.line(line, &self.format.zone);
        writeln!(out, "{style}{text}{style:#}")
    }

    fn head(&mut self, size: Size, out: &mut impl Write) -> io::Result<()> {
        self.size = size;
        self.layout = Layout::new(size.map(|(columns, _)| columns.into()));
        // So that one header is always in sight; a file needs one.
        self.lines_left = size.map(|(_, lines)| lines.saturating_sub(2).max(1));
        writeln!(out, "{HEADER}{}{HEADER:#}", self.layout.header())
    }

    fn wall_offset_ns(&self) -> i64 {
        self.start.as_ref().map_or(0, |start| start.wall_offset_ns)
    }
}

fn json(out: &mut impl Write, object: &Object<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests;
