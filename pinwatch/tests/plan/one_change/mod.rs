//! Plans for kernels whose facts differ from a stock kernel by one change.

mod access;
mod arguments;
mod collect;
mod symbols;

use pinwatch::kernel::facts::{DRAIN_FOR_FOLIO, Facts};
use pinwatch::probe::decision::Verdict;
use pinwatch::probe::plan::{Plan, Prefer};
use pinwatch::probe::table::Measurement;

use super::{SHEETS, verdict};

const GLL: &str = "__gup_longterm_locked";
const COLLECT: &str = "collect_longterm_unpinnable_folios";
const FOUND: &str = "migrate_longterm_unpinnable_folios";

/// The facts of a sheet with one change. Panics if nothing changes.
fn kernel(sheet: &str, change: impl FnOnce(&mut Facts)) -> Facts {
    let before = complete(sheet);
    let mut facts = before.clone();
    change(&mut facts);
    assert_ne!(facts, before, "the change has no effect on this sheet");
    facts
}

/// A stock kernel on which no measurement is lost.
fn complete(sheet: &str) -> Facts {
    let mut facts = SHEETS[sheet].clone();
    facts.symbols.remove(DRAIN_FOR_FOLIO);
    facts
}

fn params(names: &str) -> Vec<String> {
    names.split(' ').map(str::to_owned).collect()
}

/// Leaves a function only under a name with a compiler suffix, such as `.isra.0`.
fn suffixed_only(facts: &mut Facts, function: &str, suffix: &str) {
    facts.symbols.remove(function);
    facts
        .suffixed
        .insert(function.to_owned(), vec![format!("{function}{suffix}")]);
}

/// Programs of a measurement with their targets, and the note. Panics if it is not attached.
fn attached(plan: &Plan, measurement: Measurement) -> (Vec<(&str, &str)>, Option<&str>) {
    match verdict(plan, measurement) {
        Verdict::Attach { attachments, note } => {
            let hooks = attachments.iter().map(|hook| (hook.program, hook.target));
            (hooks.collect(), note.as_deref())
        }
        other => panic!("{}: {other:?}", measurement.name()),
    }
}

/// The reason why a measurement is lost. Panics if it is not lost.
fn lost(plan: &Plan, measurement: Measurement) -> &str {
    match verdict(plan, measurement) {
        Verdict::Lost { reason } => reason,
        other => panic!("{}: {other:?}", measurement.name()),
    }
}

/// The measurements whose decision differs from the plan of the unchanged sheet.
fn decided_otherwise(plan: &Plan, sheet: &str, prefer: Prefer) -> Vec<Measurement> {
    let original = Plan::new(&complete(sheet), prefer);
    let pairs = plan.decisions.iter().zip(&original.decisions);
    let changed = pairs.filter(|(changed, original)| changed != original);
    changed.map(|(changed, _)| changed.measurement).collect()
}
