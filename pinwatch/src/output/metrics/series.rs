//! Samples of the series of `--per`: each with labels of its own, the rest of kind
//! `other`, and what was never seen of kind `unseen`. The kind is a label of its
//! own, so that no process can take the name of the rest.

use super::samples::Samples;
use crate::model::series::{Labels, Per, Snapshot, Sums};
use crate::model::state::State;

/// A number of each.
pub fn counts(state: &State, per: Per, what: fn(&Sums) -> u64, out: &mut Samples) {
    each(state, per, |labels, sums| out.value(labels, what(sums)));
}

/// The time of each.
pub fn seconds(state: &State, per: Per, out: &mut Samples) {
    each(state, per, |labels, sums| {
        out.float(labels, sums.duration_ns as f64 / 1e9);
    });
}

fn each(state: &State, per: Per, mut say: impl FnMut(&[(&str, &str)], &Sums)) {
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
    let nobody = Labels::new();
    let all = all.iter().map(|(who, sums)| (kind, who, sums));
    let rest = [("other", &nobody, other), ("unseen", &nobody, unseen)];
    for (kind, who, sums) in all.chain(rest) {
        let mut labels = vec![("kind", kind)];
        labels.extend(who.iter().map(|(name, value)| (*name, value.as_str())));
        say(&labels, sums);
    }
}
