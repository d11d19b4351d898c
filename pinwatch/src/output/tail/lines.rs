//! Lines of `pinwatch tail`: turns updates of a feed into text or JSON.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pinwatch_common::record::PinEvent;
use pinwatch_common::refusal::Refusal;
use serde::Serialize;

use super::columns::{Layout, PinLine};
use crate::model::filter::Filter;
use crate::model::format::Clock;
use crate::model::hold::HoldRow;
use crate::model::in_flight::Row;
use crate::model::pin_json::Ended;
use crate::model::places::PlaceNames;
use crate::model::refusal::RefusalRow;
use crate::model::session::{Lost, Start};
use crate::model::view::View;
use crate::stream::feed::Update;

const FAILED: Style = AnsiColor::Red.on_default();
const OLD: Style = AnsiColor::Yellow.on_default();
const HEADER: Style = Style::new().bold();

/// Format of the lines.
#[derive(Clone, Debug)]
pub struct Format {
    /// One JSON object per line instead of columns.
    pub json: bool,
    /// Age from which a pin in flight gets lines.
    pub in_flight_after: Duration,
    /// Time zone of the column TIME.
    pub zone: TimeZone,
    /// What durations count.
    pub clock: Clock,
}

/// Size of the terminal in columns and lines; `None` without a terminal.
pub type Size = Option<(u16, u16)>;

/// State of the output between two updates.
pub struct Tail {
    format: Format,
    filter: Filter,
    start: Option<Start>,
    places: PlaceNames,
    layout: Layout,
    size: Size,
    /// Lines until the header is repeated; `None` if it is not repeated (no terminal).
    lines_left: Option<u16>,
    /// Age in seconds at which a pin in flight gets its next line, by thread id and start.
    due: HashMap<(u32, u64), f64>,
    summary: Summary,
}

/// Counts for the last line: pins shown, and events lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub pins: u64,
    pub failed: u64,
    pub longest_ns: u64,
    /// Registrations that were refused.
    pub refused: u64,
    /// Pins in flight at the last update that match the filter.
    pub in_flight: u64,
    pub lost: Lost,
}

/// Objects of `--json`, distinguished by `type`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Object<'a> {
    Start {
        version: &'a str,
        abi: u32,
        release: &'a str,
        era: &'a str,
        wall_offset_ns: i64,
        clock: Clock,
    },
    Pin(&'a Ended),
    Hold(HoldRow),
    Refusal(&'a RefusalRow),
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
            places: PlaceNames::default(),
            layout: Layout::new(None),
            size: None,
            lines_left: None,
            due: HashMap::new(),
            summary: Summary::default(),
        }
    }

    /// Writes the lines of an update.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn update(&mut self, update: &Update, size: Size, out: &mut impl Write) -> io::Result<()> {
        match update {
            Update::Start(start) => self.begin(start, size, out),
            Update::Pins(pins) => pins.iter().try_for_each(|pin| self.ended(pin, size, out)),
            Update::Holds(holds) if self.format.json => holds
                .iter()
                .try_for_each(|hold| json(out, &Object::Hold(hold.into()))),
            // A line of text has its pin's columns.
            Update::Holds(_) => Ok(()),
            Update::Refusals(refusals) => refusals
                .iter()
                .try_for_each(|refusal| self.refused(refusal, size, out)),
            Update::WallOffset(ns) => {
                if let Some(start) = &mut self.start {
                    start.wall_offset_ns = *ns;
                }
                Ok(())
            }
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
        self.places = start.status.place_names();
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
                clock: self.format.clock,
            };
            return json(out, &start);
        }
        self.head(size, out)
    }

    fn ended(&mut self, pin: &PinEvent, size: Size, out: &mut impl Write) -> io::Result<()> {
        let pin = Ended::new(pin, self.wall_offset_ns(), &self.places);
        self.summary.pins += 1;
        self.summary.failed += u64::from(!pin.ok);
        self.summary.longest_ns = self.summary.longest_ns.max(pin.duration_ns);
        if self.format.json {
            return json(out, &Object::Pin(&pin));
        }
        let style = if pin.ok { Style::new() } else { FAILED };
        let line = PinLine::ended(pin, self.format.clock);
        self.line(&line, style, size, out)
    }

    fn refused(&mut self, refusal: &Refusal, size: Size, out: &mut impl Write) -> io::Result<()> {
        let row = RefusalRow::new(refusal, self.wall_offset_ns());
        self.summary.refused += 1;
        if self.format.json {
            return json(out, &Object::Refusal(&row));
        }
        self.line(&PinLine::refused(row), FAILED, size, out)
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
                let line = PinLine::in_flight(row, time, self.format.clock);
                self.line(&line, OLD, size, out)?;
            }
        }
        self.due = due;
        Ok(())
    }

    /// Writes the last line: pins shown, and events lost.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn end(&self, out: &mut impl Write) -> io::Result<()> {
        if self.format.json {
            return json(out, &Object::Summary(&self.summary));
        }
        let Summary {
            pins,
            failed,
            longest_ns,
            refused,
            in_flight,
            lost,
        } = self.summary;
        write!(out, "{pins} pins, {failed} failed")?;
        if pins > 0 {
            write!(out, ", longest {}", self.format.clock.span(longest_ns))?;
        }
        if refused > 0 {
            write!(out, ", {refused} registrations refused")?;
        }
        if in_flight > 0 {
            write!(out, ", {in_flight} still in flight")?;
        }
        match lost.total() {
            0 => writeln!(out, "; none lost"),
            total => writeln!(
                out,
                "; {total} events lost: {} while the ring buffer was full, {} because this tail fell behind",
                lost.ring, lost.behind
            ),
        }
    }

    /// Writes a line, after a header if one is due.
    fn line(
        &mut self,
        line: &PinLine,
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
        // Often enough that a terminal always shows a header; a file gets only one.
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
