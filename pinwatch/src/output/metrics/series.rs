//! Samples of the series of `--per`. Pins without a series of their own are added up in kind `other`, and
//! pins without an event in kind `unseen`. The kind is a separate label, so that no process name can collide with them.

#![forbid(unsafe_code)]

use super::samples::Samples;
use crate::model::series::{Labels, Per, Snapshot, Sums};
use crate::model::state::State;

/// Adds a count of each series.
pub fn counts(state: &State, per: Per, count: fn(&Sums) -> u64, out: &mut Samples) {
    each(state, per, |labels, sums| out.value(labels, count(sums)));
}

/// Adds the sum of durations of each series, in seconds.
pub fn seconds(state: &State, per: Per, out: &mut Samples) {
    each(state, per, |labels, sums| {
        out.float(labels, sums.duration_ns as f64 / 1e9);
    });
}

/// Calls `add` with the labels and sums of each series; never if the state has no series of this kind.
///
/// Nearly always in the order in which a scrape shows them, which saves sorting each metric.
fn each(state: &State, per: Per, mut add: impl FnMut(&[(&'static str, &str)], &Sums)) {
    let Some(series) = state.series.as_ref().filter(|series| series.per == per) else {
        return;
    };
    let Snapshot {
        all, other, unseen, ..
    } = series;
    let kind = match per {
        Per::None => return,
        Per::Process => "process",
        Per::Cgroup => "cgroup",
    };
    let no_labels = Labels::new();
    let all = all.iter().map(|(names, sums)| (kind, &**names, sums));
    let rest = [("other", &no_labels, other), ("unseen", &no_labels, unseen)];
    let mut labels = Vec::new();
    for (kind, names, sums) in rest.into_iter().chain(all) {
        labels.clear();
        labels.push(("kind", kind));
        labels.extend(names.iter().map(|(name, value)| (*name, value.as_str())));
        add(&labels, sums);
    }
}
