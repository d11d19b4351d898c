//! Columns of `pinwatch tail`, one row of [`COLUMNS`] each. A narrow terminal loses the least important
//! columns first; then the process name is cut.

#![forbid(unsafe_code)]

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::blockers::words;
use crate::model::format::{Clock, fit, pad, printable};
use crate::model::holders;
use crate::model::in_flight::Row;
use crate::model::pin_json::Ended;
use crate::model::refusal::RefusalRow;

/// Values of one line: a pin that has ended, a pin in flight, or a registration that was refused.
pub struct PinLine {
    pub time: Timestamp,
    pub comm: String,
    pub pid: u32,
    pub origin: String,
    /// `None` if it is unknown.
    pub pages: Option<u64>,
    pub passes: u32,
    pub unpinnable: u64,
    pub migrated: u64,
    pub migrate_failed: u64,
    /// As text, in the unit of the clock.
    pub duration: String,
    pub result: String,
}

impl PinLine {
    /// Line of a pin that ended.
    pub fn ended(pin: Ended, clock: Clock) -> Self {
        let result = match (&pin.errno, pin.cause) {
            (Some(errno), Some(cause)) if pin.blockers.is_empty() => format!("{errno} {cause}"),
            (Some(errno), Some(cause)) => {
                let blockers = words(&pin.blockers);
                let holder = pin.holder.as_ref().map(holders::words);
                let holder = holder.map_or_else(String::new, |holder| format!(", {holder}"));
                format!("{errno} {cause}: {blockers}{holder}")
            }
            _ if pin.pages_returned == pin.pages_requested => "ok".to_owned(),
            _ => format!("ok, {} pages", pin.pages_returned),
        };
        Self {
            time: pin.time,
            comm: pin.comm,
            pid: pin.pid,
            origin: pin.origin.into_owned(),
            pages: Some(pin.pages_requested),
            passes: pin.passes,
            unpinnable: pin.unpinnable,
            migrated: pin.migrated,
            migrate_failed: pin.migrate_failed,
            duration: clock.span(pin.duration_ns),
            result,
        }
    }

    /// Line of a registration that was refused. The number of its pages is not known.
    pub fn refused(row: RefusalRow) -> Self {
        let RefusalRow {
            time,
            comm,
            pid,
            tid: _,
            origin,
            errno,
            reason,
        } = row;
        Self {
            time,
            comm,
            pid,
            origin: origin.into_owned(),
            pages: None,
            passes: 0,
            unpinnable: 0,
            migrated: 0,
            migrate_failed: 0,
            duration: String::new(),
            result: format!("{} refused: {reason}", errno.unwrap_or_default()),
        }
    }

    /// Line of a pin in flight, read at `time`.
    pub fn in_flight(row: &Row, time: Timestamp, clock: Clock) -> Self {
        Self {
            time,
            comm: row.thread.comm.clone().unwrap_or_else(|| "?".to_owned()),
            pid: row.pid,
            origin: row.origin.clone(),
            pages: Some(row.pages_requested),
            passes: row.passes,
            unpinnable: row.unpinnable,
            migrated: row.migrated,
            migrate_failed: row.migrate_failed,
            duration: clock.span((row.age_seconds * 1e9) as u64),
            result: format!("in flight: {}", row.activity),
        }
    }
}

/// Column of the table.
struct Column {
    title: &'static str,
    width: usize,
    right: bool,
    /// Order in which columns are dropped on a narrow terminal, highest first. 0: never dropped.
    drop_order: u8,
    text: fn(&PinLine, &TimeZone) -> String,
}

const COLUMNS: &[Column] = &[
    Column {
        title: "TIME",
        width: 12,
        right: false,
        drop_order: 0,
        text: |line, zone| {
            let time = line.time.to_zoned(zone.clone());
            time.strftime("%H:%M:%S%.3f").to_string()
        },
    },
    Column {
        title: "PROCESS",
        width: 15,
        right: false,
        drop_order: 0,
        text: |line, _| printable(&line.comm),
    },
    Column {
        title: "PID",
        width: 7,
        right: true,
        drop_order: 0,
        text: |line, _| line.pid.to_string(),
    },
    Column {
        title: "ORIGIN",
        width: 8,
        right: false,
        drop_order: 3,
        text: |line, _| line.origin.clone(),
    },
    Column {
        title: "PAGES",
        width: 6,
        right: true,
        drop_order: 0,
        text: |line, _| {
            line.pages
                .map_or_else(|| "-".to_owned(), |pages| pages.to_string())
        },
    },
    Column {
        title: "PASSES",
        width: 6,
        right: true,
        drop_order: 2,
        text: |line, _| line.passes.to_string(),
    },
    Column {
        title: "UNPIN",
        width: 6,
        right: true,
        drop_order: 4,
        text: |line, _| line.unpinnable.to_string(),
    },
    Column {
        title: "MOVED/LEFT",
        width: 10,
        right: true,
        drop_order: 5,
        text: |line, _| format!("{}/{}", line.migrated, line.migrate_failed),
    },
    Column {
        title: "DURATION",
        width: 8,
        right: true,
        drop_order: 1,
        text: |line, _| line.duration.clone(),
    },
    Column {
        title: "RESULT",
        width: RESULT,
        right: false,
        drop_order: 0,
        text: |line, _| line.result.clone(),
    },
];

/// Width of `ENOMEM migrate_busy`. Longer texts, of blockers and of pins in flight, are cut.
const RESULT: usize = 19;
/// Minimum width of the process name.
const SHORTEST_NAME: usize = 7;
/// Title of the column that can shrink.
const NAME: &str = "PROCESS";

/// Columns that fit the terminal, with their widths.
pub struct Layout {
    columns: Vec<(&'static Column, usize)>,
    /// Maximum width of a line; `None` without a terminal.
    width: Option<usize>,
}

impl Layout {
    /// Selects the columns for a width.
    pub fn new(width: Option<usize>) -> Self {
        let mut columns: Vec<_> = COLUMNS
            .iter()
            .map(|column| (column, column.width))
            .collect();
        let needed = |columns: &[(&Column, usize)]| {
            columns.iter().map(|(_, width)| width + 1).sum::<usize>() - 1
        };
        let Some(width) = width else {
            return Self {
                columns,
                width: None,
            };
        };
        let spare = COLUMNS
            .iter()
            .find(|column| column.title == NAME)
            .map_or(0, |column| column.width - SHORTEST_NAME);
        let mut next = COLUMNS
            .iter()
            .map(|column| column.drop_order)
            .max()
            .unwrap_or(0);
        while needed(&columns) > width + spare && next > 0 {
            columns.retain(|(column, _)| column.drop_order != next);
            next -= 1;
        }
        let excess = needed(&columns).saturating_sub(width).min(spare);
        for (column, width) in &mut columns {
            if column.title == NAME {
                *width -= excess;
            }
        }
        Self {
            columns,
            width: Some(width),
        }
    }

    /// Titles of the columns.
    pub fn header(&self) -> String {
        self.row(|column| column.title.to_owned())
    }

    /// Values of a line, with times in `zone`.
    pub fn line(&self, line: &PinLine, zone: &TimeZone) -> String {
        self.row(|column| (column.text)(line, zone))
    }

    fn row(&self, text: impl Fn(&Column) -> String) -> String {
        let mut row = String::new();
        for (column, width) in &self.columns {
            if !row.is_empty() {
                row.push(' ');
            }
            let text = text(column);
            let last = column.title == "RESULT";
            // Cut only the name: a wrong figure or origin is worse than a line out of alignment.
            let text = if column.title == NAME {
                fit(&text, *width)
            } else {
                text.into()
            };
            row += &pad(&text, if last { 0 } else { *width }, column.right);
        }
        match self.width {
            Some(width) => fit(&row, width).into_owned(),
            None => row,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> PinLine {
        PinLine {
            time: Timestamp::from_millisecond(45_296_789).unwrap(),
            comm: "a-long-name-\x1b[m".to_owned(),
            pid: 4_194_304,
            origin: "io_uring".to_owned(),
            pages: Some(256),
            passes: 2,
            unpinnable: 255,
            migrated: 254,
            migrate_failed: 1,
            duration: "12.3ms".to_owned(),
            result: "ENOMEM migrate_busy".to_owned(),
        }
    }

    #[test]
    fn all_columns_where_nothing_limits_the_width() {
        let layout = Layout::new(None);
        assert_eq!(
            layout.header(),
            "TIME         PROCESS             PID ORIGIN    PAGES PASSES  UNPIN MOVED/LEFT DURATION RESULT"
        );
        assert_eq!(
            layout.line(&line(), &TimeZone::UTC),
            "12:34:56.789 a-long-name-\\u… 4194304 io_uring    256      2    255      254/1   12.3ms ENOMEM migrate_busy"
        );
    }

    #[test]
    fn the_type_of_an_ioctl_is_whole() {
        let line = PinLine {
            origin: "ioctl:0xfa".to_owned(),
            ..line()
        };
        let text = Layout::new(None).line(&line, &TimeZone::UTC);
        assert!(text.contains(" ioctl:0xfa    256 "), "{text}");
    }

    #[test]
    fn a_line_fits_every_width_and_keeps_what_matters() {
        use unicode_width::UnicodeWidthStr as _;
        for width in 40..120 {
            let layout = Layout::new(Some(width));
            let text = layout.line(&line(), &TimeZone::UTC);
            assert!(text.width() <= width, "{width}: {text}");
        }
        let narrow = Layout::new(Some(80));
        let text = narrow.line(&line(), &TimeZone::UTC);
        assert!(text.ends_with("12.3ms ENOMEM migrate_busy"), "{text}");
        assert!(narrow.header().contains("ORIGIN") && narrow.header().contains("PASSES"));
    }
}
