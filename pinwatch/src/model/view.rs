//! Serialisable summary of the state, for the web page, `top` and the socket. Its figures agree with
//! `/metrics`.
#![forbid(unsafe_code)]

use std::sync::Arc;

use pinwatch_common::cells::OriginCells;
use pinwatch_common::histogram::{
    DURATION_BUCKETS, PASS_BUCKETS, PASS_EDGES, duration_bucket, duration_upper_ns,
};
use pinwatch_common::record::{ORIGIN_NAMES, PHASE_NAMES};
use serde::{Deserialize, Serialize};

use super::blockers::{self, Blockers};
use super::bounded;
use super::holders::{self, BlockedRow};
use super::in_flight::{self, Row};
use super::pinned::{LARGEST, Pinned, Process};
use crate::model::failures::failures;
use crate::model::state::{State, losses, quantile_ns};
use crate::probe::decision::{Decision, Verdict};
use crate::probe::silence::silence;
use crate::probe::table::Measurement;

/// Maximum length of [`View::oldest`]. Hung pins are the oldest.
const LISTED: usize = 100;

/// Summary of the state at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct View {
    pub version: String,
    pub release: String,
    pub era: String,
    /// Time of the state, in nanoseconds of `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// Origins with at least one pin.
    pub origins: Vec<Origin>,
    pub failures: Vec<Failures>,
    /// Registrations that the kernel refused although no pin failed; without zeros.
    #[serde(default)]
    pub refusals: Vec<Refusals>,
    /// Seconds that all pins spent in each phase.
    pub phases: Vec<(String, f64)>,
    pub pages: Pages,
    pub in_flight: u64,
    pub stuck: u64,
    /// The oldest pins in flight, oldest first.
    pub oldest: Vec<Row>,
    pub hooks: Vec<HookLine>,
    /// Reasons why attached hooks do not run, each with its remedy.
    #[serde(default)]
    pub silenced: Vec<String>,
    /// Losses by stage; without zeros.
    pub lost: Vec<(String, u64)>,
    pub events_sent: u64,
    /// Memory that is pinned now; null in a replay.
    #[serde(default)]
    pub pinned: Option<PinnedNow>,
    /// Folios that failed migrations left behind, by what held them and by memory; without zeros.
    #[serde(default)]
    pub blockers: Vec<Blockers>,
    /// Pins that weak pins were in the way of, the last one first; one per 64 thread ids.
    #[serde(default)]
    pub blocked: Vec<BlockedRow>,
}

/// Memory that is pinned now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PinnedNow {
    /// Pages that are pinned on the machine, from counters that lag.
    pub pages: Option<u64>,
    /// The processes with the most pinned and locked memory, largest first.
    pub largest: Vec<Process>,
}

/// Statistics of the pins of one origin.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Origin {
    pub origin: String,
    pub pins: u64,
    pub seconds: f64,
    /// Median duration in nanoseconds, from the histogram.
    pub p50_ns: Option<f64>,
    /// 99th percentile of the duration in nanoseconds, from the histogram.
    pub p99_ns: Option<f64>,
    /// Non-empty buckets of the duration histogram: inclusive upper edge in nanoseconds (`None` for
    /// the last bucket), and number of pins.
    pub durations: Vec<(Option<u64>, u64)>,
    /// Non-empty buckets of the passes histogram: inclusive upper edge, and number of pins.
    pub passes: Vec<(Option<u32>, u64)>,
    pub passes_sum: u64,
}

/// Number of failed pins of one origin, errno and cause.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failures {
    pub origin: String,
    pub errno: String,
    pub cause: String,
    pub count: u64,
}

/// Number of refused registrations of one origin, for one reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusals {
    pub origin: String,
    pub reason: String,
    pub count: u64,
}

/// Pages of all pins that ended.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Pages {
    /// In base pages.
    pub requested: u64,
    /// In base pages.
    pub returned: u64,
    /// In base pages, from 6.11 on in folios.
    pub unpinnable: u64,
    /// In the unit of the tracepoint `migrate:mm_migrate_pages`.
    pub migrated: u64,
    /// In the unit of the tracepoint `migrate:mm_migrate_pages`.
    pub migrate_failed: u64,
}

/// Status of a hook, or of a measurement without a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookStatus {
    Attached,
    /// The kernel refused to attach it.
    Failed,
    /// Attached, but a kernel switch that is off keeps it from running.
    Silent,
    /// This kernel does not allow the measurement.
    Lost,
    /// The selection leaves the measurement out.
    Off,
    /// This kernel has nothing to measure here.
    NotApplicable,
}

impl HookStatus {
    /// Name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Failed => "failed",
            Self::Silent => "silent",
            Self::Lost => "lost",
            Self::Off => "off",
            Self::NotApplicable => "not_applicable",
        }
    }
}

/// Status of one hook of a measurement. A measurement without hooks has one line too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookLine {
    pub measurement: Measurement,
    pub verdict: HookStatus,
    pub hook: Option<String>,
    pub note: Option<String>,
}

impl View {
    #[must_use]
    pub fn new(state: &State) -> Self {
        let pins = &state.cells.pins;
        let origins = ORIGIN_NAMES.iter().zip(&pins.origins);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            release: state.release.clone(),
            era: state.era.clone(),
            now_ns: state.now_ns,
            origins: origins
                .map(|(name, cells)| Origin::new(name, cells))
                .filter(|origin| origin.pins > 0)
                .collect(),
            failures: failures(pins).map(Failures::from).collect(),
            refusals: state
                .memlock_refusals()
                .filter(|(_, count)| *count > 0)
                .map(|(origin, count)| Refusals {
                    origin: origin.to_owned(),
                    reason: "memlock".to_owned(),
                    count,
                })
                .collect(),
            phases: PHASE_NAMES
                .iter()
                .zip(pins.phase_ns())
                .map(|(phase, ns)| ((*phase).to_owned(), ns as f64 / 1e9))
                .collect(),
            pages: Pages {
                requested: pins.requested(),
                returned: pins.returned(),
                unpinnable: pins.unpinnable,
                migrated: pins.moved,
                migrate_failed: pins.failed,
            },
            in_flight: state.in_flight.len() as u64,
            stuck: state.stuck() as u64,
            oldest: in_flight::rows(state, LISTED),
            hooks: hooks(state),
            silenced: state.silenced().into_iter().map(str::to_owned).collect(),
            lost: losses(state)
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect(),
            events_sent: state.events_sent,
            pinned: state.pinned.read().map(PinnedNow::from),
            blockers: blockers::summary(state),
            blocked: holders::rows(&state.blocked, state.now_ns),
        }
    }

    /// Number of pins that ended.
    #[must_use]
    pub fn pins(&self) -> u64 {
        bounded::sum(self.origins.iter().map(|origin| origin.pins))
    }

    /// Number of pins that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        bounded::sum(self.failures.iter().map(|failures| failures.count))
    }

    /// Number of registrations that the kernel refused although no pin failed.
    #[must_use]
    pub fn refused(&self) -> u64 {
        bounded::sum(self.refusals.iter().map(|refusals| refusals.count))
    }
}

impl From<Pinned> for PinnedNow {
    fn from(pinned: Pinned) -> Self {
        let mut largest = pinned.processes;
        largest.truncate(LARGEST);
        Self {
            pages: pinned.pages,
            largest,
        }
    }
}

impl Origin {
    fn new(name: &str, cells: &OriginCells) -> Self {
        let buckets = &cells.durations;
        let durations = buckets.iter().enumerate();
        let passes = cells.passes();
        let edges = PASS_EDGES.into_iter().map(Some).chain([None]);
        Self {
            origin: name.to_owned(),
            pins: buckets.iter().sum(),
            seconds: cells.duration_ns() as f64 / 1e9,
            p50_ns: quantile_ns(buckets, 0.5),
            p99_ns: quantile_ns(buckets, 0.99),
            durations: durations
                .filter(|(_, n)| **n > 0)
                .map(|(bucket, n)| (duration_upper_ns(bucket), *n))
                .collect(),
            passes: edges.zip(passes.buckets).filter(|(_, n)| *n > 0).collect(),
            passes_sum: passes.sum,
        }
    }

    /// The full duration histogram, with its empty buckets.
    #[must_use]
    pub fn buckets(&self) -> [u64; DURATION_BUCKETS] {
        let mut buckets = [0u64; DURATION_BUCKETS];
        for (upper, n) in &self.durations {
            let bucket = &mut buckets[duration_bucket(upper.unwrap_or(u64::MAX))];
            *bucket = bucket.saturating_add(*n);
        }
        buckets
    }
}

const _: () = assert!(PASS_BUCKETS == PASS_EDGES.len() + 1);

impl From<crate::model::failures::Failures> for Failures {
    fn from(failures: crate::model::failures::Failures) -> Self {
        Self {
            origin: failures.origin.to_owned(),
            errno: failures.errno.to_owned(),
            cause: failures.cause.to_owned(),
            count: failures.count,
        }
    }
}

/// Status of each hook of the plan, for [`View::hooks`].
#[must_use]
pub fn hooks(state: &State) -> Vec<HookLine> {
    let lines = state.decisions.iter().flat_map(|decision| {
        let line = |verdict, hook, note| HookLine {
            measurement: decision.measurement,
            verdict,
            hook,
            note,
        };
        match &decision.verdict {
            Verdict::Attach { note, .. } => {
                let hooks = state
                    .hooks
                    .iter()
                    .filter(|hook| hook.measurement == decision.measurement);
                let source = decision.measurement.without_hook();
                let source = source.map(|source| {
                    line(HookStatus::Attached, Some(source.to_owned()), note.clone())
                });
                hooks
                    .map(|hook| {
                        let place = format!("{} {}", hook.kind, hook.target);
                        let (verdict, note) = match silence(hook.kind, &state.switches) {
                            _ if hook.attached => (HookStatus::Attached, note.clone()),
                            Some(why) => (HookStatus::Silent, Some(why.to_owned())),
                            None => (HookStatus::Failed, note.clone()),
                        };
                        line(verdict, Some(place), note)
                    })
                    .chain(source)
                    .collect()
            }
            Verdict::Lost { reason } => vec![line(
                HookStatus::Lost,
                None,
                Some(reason.clone() + &consequence(decision.measurement)),
            )],
            Verdict::Off { reason } => vec![line(HookStatus::Off, None, Some(reason.clone()))],
            Verdict::NotApplicable { reason } => {
                vec![line(HookStatus::NotApplicable, None, Some(reason.clone()))]
            }
        }
    });
    lines.collect()
}

/// End of the note on a lost measurement.
fn consequence(measurement: Measurement) -> String {
    format!("; {}", measurement.loss())
}

/// The decisions that lines of [`hooks`] show, without their programs. A recording has only the lines.
#[must_use]
pub fn decisions(lines: &[HookLine]) -> Arc<[Decision]> {
    let mut decisions: Vec<Decision> = Vec::new();
    for line in lines {
        let HookLine {
            measurement,
            verdict,
            note,
            ..
        } = line.clone();
        if decisions.iter().any(|one| one.measurement == measurement) {
            continue;
        }
        let reason = note.clone().unwrap_or_default();
        let verdict = match verdict {
            HookStatus::Lost => Verdict::Lost {
                reason: match reason.strip_suffix(&consequence(measurement)) {
                    Some(reason) => reason.to_owned(),
                    None => reason,
                },
            },
            HookStatus::Off => Verdict::Off { reason },
            HookStatus::NotApplicable => Verdict::NotApplicable { reason },
            HookStatus::Attached | HookStatus::Failed | HookStatus::Silent => Verdict::Attach {
                attachments: Vec::new(),
                note,
            },
        };
        decisions.push(Decision {
            measurement,
            verdict,
        });
    }
    decisions.into()
}
