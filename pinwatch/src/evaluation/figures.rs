//! What is compared, one row per figure.

use pinwatch_common::record::Phase;
use serde::Serialize;

use super::group::Sample;

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Lower,
    /// Explains others, and is no verdict of its own.
    Neither,
}

/// How the values of single pins become one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    /// The share of pins with 1 instead of 0.
    Share,
    Mean,
    /// The value that this share of the pins stays within.
    Quantile(f64),
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Share,
    Nanoseconds,
    NanosecondsPerPage,
    Number,
}

impl Unit {
    /// Whether it depends on how fast the machine is.
    #[must_use]
    pub fn is_time(self) -> bool {
        match self {
            Self::Nanoseconds | Self::NanosecondsPerPage => true,
            Self::Share | Self::Number => false,
        }
    }
}

/// A row.
pub struct Figure {
    pub name: &'static str,
    pub unit: Unit,
    pub better: Better,
    pub how: How,
    /// Of one pin; none for a pin that does not count here.
    pub of: fn(&Sample) -> Option<f64>,
}

const fn figure(
    name: &'static str,
    unit: Unit,
    better: Better,
    how: How,
    of: fn(&Sample) -> Option<f64>,
) -> Figure {
    Figure {
        name,
        unit,
        better,
        how,
        of,
    }
}

const fn each_page(name: &'static str, of: fn(&Sample) -> Option<f64>) -> Figure {
    figure(
        name,
        Unit::NanosecondsPerPage,
        Better::Neither,
        How::Mean,
        of,
    )
}

const fn each_pin(name: &'static str, of: fn(&Sample) -> Option<f64>) -> Figure {
    figure(name, Unit::Number, Better::Neither, How::Mean, of)
}

/// Per page returned, of pins that succeeded.
fn page(sample: &Sample, value: f64) -> Option<f64> {
    (sample.returned > 0.0).then(|| value / sample.returned)
}

fn phase(sample: &Sample, phase: Phase) -> Option<f64> {
    page(sample, sample.phase_ns[phase as usize].into())
}

/// The figure whose lines say why.
pub const FAILED: &str = "failed pins";

pub const FIGURES: &[Figure] = &[
    figure(FAILED, Unit::Share, Better::Lower, How::Share, |pin| {
        Some(f64::from(u8::from(pin.failed)))
    }),
    figure(
        "pages left in ZONE_MOVABLE",
        Unit::Share,
        Better::Lower,
        How::Share,
        |pin| pin.movable.map(|movable| f64::from(u8::from(movable))),
    ),
    figure(
        "duration, median",
        Unit::Nanoseconds,
        Better::Lower,
        How::Quantile(0.5),
        |pin| Some(pin.duration_ns),
    ),
    figure(
        "duration, p99",
        Unit::Nanoseconds,
        Better::Lower,
        How::Quantile(0.99),
        |pin| Some(pin.duration_ns),
    ),
    figure(
        "duration per page",
        Unit::NanosecondsPerPage,
        Better::Lower,
        How::Mean,
        |pin| page(pin, pin.duration_ns),
    ),
    each_page("gup per page", |pin| phase(pin, Phase::Gup)),
    each_page("collect per page", |pin| phase(pin, Phase::Collect)),
    each_page("drain per page", |pin| phase(pin, Phase::Drain)),
    each_page("migrate per page", |pin| phase(pin, Phase::Migrate)),
    figure("passes", Unit::Number, Better::Lower, How::Mean, |pin| {
        Some(pin.passes.into())
    }),
    each_pin("amplification", |pin| {
        page(pin, pin.returned + f64::from(pin.repinned))
    }),
    each_pin("unpinnable", |pin| Some(pin.unpinnable.into())),
    each_pin("pages migrated", |pin| Some(pin.moved.into())),
    each_pin("pages not migrated", |pin| Some(pin.left.into())),
    each_pin("migrate calls", |pin| Some(pin.migrate_calls.into())),
    each_pin("LRU drains", |pin| Some(pin.drains.into())),
    each_pin("isolation failures", |pin| {
        Some(pin.isolate_failures.into())
    }),
];
