//! Figures that `compare` compares, one row each.
#![forbid(unsafe_code)]

use pinwatch_common::record::Phase;
use serde::Serialize;

use super::sample::Sample;
use crate::model::format::Clock;
use crate::probe::table::Measurement;

/// Direction in which a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Lower,
    /// No direction: the figure explains others and never decides the verdict.
    Neither,
}

/// Aggregation of the pins' values to one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aggregate {
    /// Share of pins with the value 1; the others have 0.
    Share,
    Mean,
    /// Quantile, from 0 to 1.
    Quantile(f64),
}

/// Unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Share,
    Nanoseconds,
    NanosecondsPerPage,
    /// [`Self::Nanoseconds`] of a clock that counts instructions.
    Instructions,
    InstructionsPerPage,
    Number,
}

impl Unit {
    /// Whether the figure is a time, which depends on the speed of the machine.
    #[must_use]
    pub fn is_time(self) -> bool {
        match self {
            Self::Nanoseconds
            | Self::NanosecondsPerPage
            | Self::Instructions
            | Self::InstructionsPerPage => true,
            Self::Share | Self::Number => false,
        }
    }

    /// The unit if `clock` takes the figure.
    #[must_use]
    pub fn on(self, clock: Clock) -> Self {
        match (clock, self) {
            (Clock::Instructions, Self::Nanoseconds) => Self::Instructions,
            (Clock::Instructions, Self::NanosecondsPerPage) => Self::InstructionsPerPage,
            _ => self,
        }
    }
}

/// One figure: its name, and how it is computed.
pub struct Figure {
    pub name: &'static str,
    pub unit: Unit,
    pub better: Better,
    pub aggregate: Aggregate,
    /// Measurements that the figure adds up. Without one of them it has another meaning.
    pub needs: &'static [Measurement],
    /// Value of one pin; `None` if the figure leaves out the pin.
    pub of: fn(&Sample) -> Option<f64>,
}

const fn figure(
    name: &'static str,
    unit: Unit,
    better: Better,
    aggregate: Aggregate,
    needs: &'static [Measurement],
    of: fn(&Sample) -> Option<f64>,
) -> Figure {
    Figure {
        name,
        unit,
        better,
        aggregate,
        needs,
        of,
    }
}

const fn each_page(
    name: &'static str,
    needs: &'static [Measurement],
    of: fn(&Sample) -> Option<f64>,
) -> Figure {
    figure(
        name,
        Unit::NanosecondsPerPage,
        Better::Neither,
        Aggregate::Mean,
        needs,
        of,
    )
}

const fn each_pin(
    name: &'static str,
    needs: &'static [Measurement],
    of: fn(&Sample) -> Option<f64>,
) -> Figure {
    figure(
        name,
        Unit::Number,
        Better::Neither,
        Aggregate::Mean,
        needs,
        of,
    )
}

/// `value` per returned page; `None` for a failed pin.
fn page(sample: &Sample, value: f64) -> Option<f64> {
    (sample.returned > 0.0).then(|| value / sample.returned)
}

fn phase(sample: &Sample, phase: Phase) -> Option<f64> {
    page(sample, sample.phase_ns[phase as usize].into())
}

/// `value` of a pin with a pass. A pin without one failed before it, or its passes were not counted.
fn passed(sample: &Sample, value: f64) -> Option<f64> {
    (sample.passes > 0).then_some(value)
}

/// Name of the figure whose lines list errnos and causes.
pub const FAILED: &str = "failed pins";

/// All figures, in the order of the output.
pub const FIGURES: &[Figure] = &[
    figure(
        FAILED,
        Unit::Share,
        Better::Lower,
        Aggregate::Share,
        &[],
        |pin| Some(f64::from(u8::from(pin.failed))),
    ),
    figure(
        "pages left in ZONE_MOVABLE",
        Unit::Share,
        Better::Lower,
        Aggregate::Share,
        &[Measurement::Zones],
        |pin| pin.movable.map(|movable| f64::from(u8::from(movable))),
    ),
    figure(
        "duration, median",
        Unit::Nanoseconds,
        Better::Lower,
        Aggregate::Quantile(0.5),
        &[],
        |pin| Some(pin.duration_ns),
    ),
    figure(
        "duration, p99",
        Unit::Nanoseconds,
        Better::Lower,
        Aggregate::Quantile(0.99),
        &[],
        |pin| Some(pin.duration_ns),
    ),
    figure(
        "duration per page",
        Unit::NanosecondsPerPage,
        Better::Lower,
        Aggregate::Mean,
        &[],
        |pin| page(pin, pin.duration_ns),
    ),
    each_page("gup per page", &[Measurement::Phases], |pin| {
        phase(pin, Phase::Gup)
    }),
    each_page("collect per page", &[Measurement::Phases], |pin| {
        phase(pin, Phase::Collect)
    }),
    each_page(
        "drain per page",
        &[Measurement::Phases, Measurement::Drains],
        |pin| phase(pin, Phase::Drain),
    ),
    each_page(
        "migrate per page",
        &[Measurement::Phases, Measurement::MigrateTime],
        |pin| phase(pin, Phase::Migrate),
    ),
    figure(
        "passes",
        Unit::Number,
        Better::Lower,
        Aggregate::Mean,
        &[Measurement::Passes],
        |pin| passed(pin, pin.passes.into()),
    ),
    each_pin("amplification", &[Measurement::Passes], |pin| {
        page(pin, passed(pin, pin.returned + f64::from(pin.repinned))?)
    }),
    each_pin("unpinnable", &[Measurement::Unpinnable], |pin| {
        Some(pin.unpinnable.into())
    }),
    each_pin("pages migrated", &[Measurement::Migrations], |pin| {
        Some(pin.moved.into())
    }),
    each_pin("pages not migrated", &[Measurement::Migrations], |pin| {
        Some(pin.left.into())
    }),
    each_pin("migrate calls", &[Measurement::Migrations], |pin| {
        Some(pin.migrate_calls.into())
    }),
    each_pin("LRU drains", &[Measurement::Drains], |pin| {
        Some(pin.drains.into())
    }),
    each_pin(
        "isolation failures",
        &[
            Measurement::IsolateLru,
            Measurement::IsolateHugetlb,
            Measurement::IsolateMovable,
        ],
        |pin| Some(pin.isolate_failures.into()),
    ),
];
