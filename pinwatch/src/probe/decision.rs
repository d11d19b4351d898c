//! The planner's decision on each measurement: attached (with which programs), or the reason against it.
#![forbid(unsafe_code)]

use serde::Serialize;

pub use super::attachment::{Attachment, Kind};
use super::table::{GUP, Measurement};

/// Verdict on a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// Attached. `note` lists limitations, such as a count that is a lower bound.
    Attach {
        attachments: Vec<Attachment>,
        note: Option<String>,
    },
    /// This kernel has nothing of this kind to measure.
    NotApplicable { reason: String },
    /// Not selected by the user.
    Off { reason: String },
    /// Not measurable on this kernel.
    Lost { reason: String },
}

/// A measurement with its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub measurement: Measurement,
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Decision {
    /// Programs that take the measurement; empty unless the verdict is `Attach`.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        match &self.verdict {
            Verdict::Attach { attachments, .. } => attachments,
            Verdict::NotApplicable { .. } | Verdict::Off { .. } | Verdict::Lost { .. } => &[],
        }
    }
}

/// Turns the pins of `memfd_pin_folios` into a loss if passes are taken from `__get_user_pages`, which it does not call:
/// these pins would have 0 passes.
pub(super) fn lose_memfd(decisions: &mut [Decision]) {
    use Measurement as M;
    let mut taken = decisions.iter().filter(|d| d.measurement == M::Passes);
    let misses = taken.any(|passes| passes.attachments().iter().any(|hook| hook.target == GUP));
    let memfd = [M::MemfdEntry, M::MemfdReturn];
    for decision in decisions {
        if misses
            && memfd.contains(&decision.measurement)
            && matches!(decision.verdict, Verdict::Attach { .. })
        {
            let reason = format!(
                "passes are counted by {GUP}, which memfd_pin_folios does not call (--without passes counts its pins)"
            );
            decision.verdict = Verdict::Lost { reason };
        }
    }
}

/// Turns weak pins off or into a loss if blockers or zones are not measured, which find their folios, or if one of
/// their functions cannot be hooked: a holder whose release is not seen would be named for ever.
pub(super) fn lose_weak_pins(decisions: &mut [Decision]) {
    use Measurement as M;
    let needed = [M::Blockers, M::Zones];
    let mut missing = decisions
        .iter()
        .filter(|decision| needed.contains(&decision.measurement));
    let verdict = missing.find_map(|decision| {
        let name = decision.measurement.name();
        match decision.verdict {
            Verdict::Off { .. } => Some(Verdict::Off {
                reason: format!("its folios are found by {name} (--without {name})"),
            }),
            Verdict::Lost { .. } => Some(Verdict::Lost {
                reason: format!("its folios are found by {name}, which is lost"),
            }),
            Verdict::Attach { .. } | Verdict::NotApplicable { .. } => None,
        }
    });
    let weak = decisions.iter_mut().find(|d| d.measurement == M::WeakPins);
    if let Some(weak) = weak
        && let Verdict::Attach { note, .. } = &mut weak.verdict
    {
        let unhooked = note.take().map(|reason| Verdict::Lost { reason });
        if let Some(verdict) = verdict.or(unhooked) {
            weak.verdict = verdict;
        }
    }
}
