//! Data on the screen of `pinwatch top`.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use pinwatch_common::histogram::{DURATION_BUCKETS, duration_bucket};

use super::groups::{Group, Processes, highest};
use crate::model::format::Clock;
use crate::model::session::{Lost, Start};
use crate::model::view::{Origin, View};
use crate::stream::feed::Update;

/// Maximum number of columns of the heat map.
const HISTORY: usize = 256;
/// Shortest time between two columns, over which rates are taken too; in nanoseconds.
const COLUMN_NS: u64 = 1_000_000_000;

/// Upper edges of the heat map's rows, in nanoseconds. One more row has all longer durations.
pub(super) const EDGES_NS: [u64; 7] = [
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
];
pub(super) const ROWS: usize = EDGES_NS.len() + 1;

/// Kind of row in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum By {
    #[default]
    Process,
    Origin,
}

/// Figure by which the table is sorted, highest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Rate,
    Pins,
    Failed,
    P99,
    Max,
    Passes,
}

impl Sort {
    const ALL: [Self; 6] = [
        Self::Rate,
        Self::Pins,
        Self::Failed,
        Self::P99,
        Self::Max,
        Self::Passes,
    ];

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self);
        Self::ALL[(at.unwrap_or(0) + 1) % Self::ALL.len()]
    }

    /// Value of the figure for a row.
    fn of(self, group: &Group) -> f64 {
        match self {
            Self::Rate => group.rate,
            Self::Pins => group.pins as f64,
            Self::Failed => group.failed() as f64,
            Self::P99 => group.quantile_ns(0.99).unwrap_or(0.0),
            Self::Max => group.max_ns as f64,
            Self::Passes => group.passes_mean(),
        }
    }
}

/// Last state of the feed, and the figures computed from it.
#[derive(Clone, Default)]
pub(super) struct Data {
    pub(super) start: Option<Start>,
    pub(super) view: View,
    /// State at the last column of the heat map.
    pub(super) before: Option<View>,
    pub(super) lost: Lost,
    /// Pins and failures per second.
    pub(super) rates: (f64, f64),
    pub(super) origins: Vec<Group>,
    pub(super) processes: Processes,
    pub(super) heat: VecDeque<[u64; ROWS]>,
    pub(super) ended: bool,
}

impl Data {
    fn update(&mut self, update: Update) {
        match update {
            Update::Start(start) => self.start = Some(start),
            Update::Pins(pins) => pins.iter().for_each(|pin| self.processes.add(pin)),
            // Ages and rates only: this view shows no wall clock.
            Update::Holds(_) | Update::Refusals(_) | Update::WallOffset(_) => {}
            Update::Tick { view, lost } => {
                self.lost = lost;
                self.tick(*view);
            }
            Update::End { lost, .. } => {
                self.lost = lost;
                self.ended = true;
            }
        }
    }

    fn tick(&mut self, view: View) {
        let before = self.before.get_or_insert_with(|| view.clone());
        let passed = view.now_ns.saturating_sub(before.now_ns);
        if passed >= COLUMN_NS {
            let seconds = passed as f64 / 1e9;
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
            self.rates = (
                rate(view.pins(), before.pins()),
                rate(view.failed(), before.failed()),
            );
            self.heat.push_back(column(before, &view));
            if self.heat.len() > HISTORY {
                self.heat.pop_front();
            }
            self.origins = origins(before, &view, seconds);
            self.processes.take_rates(seconds);
            self.before = Some(view.clone());
        } else if self.origins.is_empty() {
            self.origins = origins(before, &view, 1.0);
        }
        self.view = view;
    }
}

/// Column of the heat map: pins that ended between two states, by row.
fn column(before: &View, now: &View) -> [u64; ROWS] {
    let rows = |view: &View| {
        let mut rows = [0u64; ROWS];
        for (upper, n) in view.origins.iter().flat_map(|origin| &origin.durations) {
            // By the bucket's upper edge. The edges of rows (powers of ten) lie inside buckets, so
            // buckets are compared.
            let upper = upper.unwrap_or(u64::MAX);
            let row = EDGES_NS
                .iter()
                .position(|edge| duration_bucket(upper) <= duration_bucket(*edge));
            let row = &mut rows[row.unwrap_or(ROWS - 1)];
            *row = row.saturating_add(*n);
        }
        rows
    };
    let (then, mut now) = (rows(before), rows(now));
    for (now, then) in now.iter_mut().zip(then) {
        *now = now.saturating_sub(then);
    }
    now
}

/// Rows of origins: totals since the daemon's start, and rates since `before`.
fn origins(before: &View, now: &View, seconds: f64) -> Vec<Group> {
    let pins_before = |name: &str| {
        let origin = before.origins.iter().find(|origin| origin.origin == name);
        origin.map_or(0, |origin| origin.pins)
    };
    let group = |origin: &Origin| {
        let failures = now.failures.iter();
        let buckets: [u64; DURATION_BUCKETS] = origin.buckets();
        Group {
            name: origin.origin.clone(),
            pid: None,
            rate: origin.pins.saturating_sub(pins_before(&origin.origin)) as f64 / seconds,
            pins: origin.pins,
            passes: origin.passes_sum,
            max_ns: highest(&buckets),
            buckets: Box::new(buckets),
            causes: failures
                .filter(|failures| failures.origin == origin.origin)
                .map(|failures| (failures.cause.clone(), failures.count))
                .collect(),
        }
    };
    now.origins.iter().map(group).collect()
}

/// State of `pinwatch top`: the data, and the user's view of it.
#[derive(Default)]
pub struct Top {
    /// What durations count.
    pub(super) clock: Clock,
    pub(super) live: Data,
    /// Data shown while paused; `None` if not paused.
    pub(super) paused: Option<Box<Data>>,
    pub(super) by: By,
    pub(super) sort: Sort,
    /// Text or pid that rows must have; empty for all rows.
    pub(super) find: String,
    /// Whether keys edit `find`.
    pub(super) typing: bool,
    pub(super) help: bool,
    pub(super) scroll: usize,
}

impl Top {
    /// A screen without data; `clock` is what durations count.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            ..Self::default()
        }
    }

    /// Applies an update of the feed.
    pub fn update(&mut self, update: Update) {
        self.live.update(update);
    }

    /// Data to show: the paused data, or the last.
    pub(super) fn shown(&self) -> &Data {
        self.paused.as_deref().unwrap_or(&self.live)
    }

    /// Rows of the table that match `find`, sorted.
    pub(super) fn rows(&self) -> Vec<&Group> {
        let data = self.shown();
        let mut rows: Vec<&Group> = match self.by {
            By::Process => data.processes.groups().collect(),
            By::Origin => data.origins.iter().collect(),
        };
        rows.retain(|group| self.finds(&group.name, group.pid));
        rows.sort_by(|a, b| {
            let figures = self.sort.of(b).total_cmp(&self.sort.of(a));
            figures.then_with(|| (&a.name, a.pid).cmp(&(&b.name, b.pid)))
        });
        rows
    }

    /// Whether a row with this name and pid matches `find`.
    pub(super) fn finds(&self, name: &str, pid: Option<u32>) -> bool {
        self.find.is_empty()
            || name.contains(&self.find)
            || pid.is_some_and(|pid| pid.to_string() == self.find)
    }
}

#[cfg(test)]
mod tests;
