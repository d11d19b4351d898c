//! Measurements that need others: a measurement is off or lost if one that it needs is.
#![forbid(unsafe_code)]

use super::decision::{Decision, Verdict};
use super::table::{GUP, Measurement, is_hook_of};

/// If passes are `Off` or `Lost`, turns measurements inside collect into the same verdict: only passes show
/// the beginning of collect.
pub(super) fn lose_with_passes(decisions: &mut [Decision]) {
    use Measurement as M;
    let passes = decisions.iter().find(|d| d.measurement == M::Passes);
    let Some(passes) = passes.map(|d| d.verdict.clone()) else {
        return;
    };
    let off = match passes {
        Verdict::Lost { .. } => false,
        Verdict::Off { .. } => true,
        Verdict::Attach { .. } | Verdict::NotApplicable { .. } => return,
    };
    for decision in decisions {
        let Verdict::Attach { attachments, .. } = &decision.verdict else {
            continue;
        };
        let inside = match decision.measurement {
            M::IsolateLru | M::IsolateHugetlb | M::IsolateMovable => true,
            // Here one program counts passes and ends these phases.
            M::Phases => attachments.iter().any(|a| is_hook_of(M::Passes, a)),
            _ => false,
        };
        if inside {
            let why = "it is counted only inside collect, and its beginning is not seen";
            decision.verdict = if off {
                Verdict::Off {
                    reason: format!("{why} (--without passes)"),
                }
            } else {
                Verdict::Lost {
                    reason: format!("{why} (passes are lost)"),
                }
            };
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

/// The measurements that one needs. Each of them is before it in [`Measurement::ALL`].
pub(super) fn needed_by(measurement: Measurement) -> &'static [Measurement] {
    use Measurement as M;
    match measurement {
        // Only the end of a migration shows whether it failed, and ends its time.
        M::MigrateTime | M::MigrateResult | M::Blockers => &[M::Migrations],
        M::UnpinnableZones => &[M::Zones],
        M::WeakPins => &[M::Blockers, M::Zones],
        _ => &[],
    }
}

/// Turns measurements off or into a loss if they need others that are not measured. Weak pins are also lost if one of
/// their functions cannot be hooked: a holder whose release is not seen would be named for ever.
pub(super) fn lose_dependants(decisions: &mut [Decision]) {
    use Measurement as M;
    for dependant in Measurement::ALL {
        lose_dependant(decisions, dependant, needed_by(dependant));
    }
    let weak = decisions.iter_mut().find(|d| d.measurement == M::WeakPins);
    if let Some(weak) = weak
        && let Verdict::Attach { note, .. } = &mut weak.verdict
        && let Some(reason) = note.take()
    {
        weak.verdict = Verdict::Lost { reason };
    }
}

/// Turns a measurement off, or into a loss, if one that it needs is off or lost.
fn lose_dependant(decisions: &mut [Decision], dependant: Measurement, needed: &[Measurement]) {
    let mut missing = decisions
        .iter()
        .filter(|decision| needed.contains(&decision.measurement));
    let verdict = missing.find_map(|decision| {
        let name = decision.measurement.name();
        match decision.verdict {
            Verdict::Off { .. } => Some(Verdict::Off {
                reason: format!("it needs {name} (--without {name})"),
            }),
            Verdict::Lost { .. } => Some(Verdict::Lost {
                reason: format!("it needs {name}, which is lost"),
            }),
            Verdict::Attach { .. } | Verdict::NotApplicable { .. } => None,
        }
    });
    let mut decisions = decisions.iter_mut();
    let dependant = decisions.find(|d| d.measurement == dependant);
    if let Some(dependant) = dependant
        && matches!(dependant.verdict, Verdict::Attach { .. })
        && let Some(verdict) = verdict
    {
        dependant.verdict = verdict;
    }
}
