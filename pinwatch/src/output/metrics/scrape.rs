//! The families of a scrape: those of a state, and those of the agent itself.

#![forbid(unsafe_code)]

use prometheus::proto::MetricFamily;

use super::samples::{Kind, Samples};
use super::table::{METRICS, Metric};
use crate::model::state::State;

/// Where the samples of a family come from.
enum Source<'a> {
    State(&'static Metric, &'a State),
    Agent(&'a MetricFamily),
}

/// Calls `each` with the name, HELP, kind and samples of every family that has samples, sorted by name.
///
/// `state` is `None` until the hooks are attached. `agent` comes from a `prometheus::Registry`. The metrics of a
/// state do not go through it: for each scrape, it would take several allocations per sample.
pub fn for_each_family<'a>(
    state: Option<&'a State>,
    agent: &'a [MetricFamily],
    mut each: impl FnMut(&'a str, &'a str, Kind, &Samples<'a>),
) {
    let mut families: Vec<_> = agent
        .iter()
        .map(|family| (family.name(), Source::Agent(family)))
        .collect();
    if let Some(state) = state {
        let metrics = METRICS.iter();
        families.extend(metrics.map(|metric| (metric.name, Source::State(metric, state))));
    }
    families.sort_by_key(|(name, _)| *name);
    let mut samples = Samples::default();
    for (name, source) in families {
        samples.clear();
        let (help, kind) = match source {
            Source::State(metric, state) => {
                (metric.samples)(state, &mut samples);
                (metric.help, Some(metric.kind))
            }
            Source::Agent(family) => (family.help(), samples.copy(family)),
        };
        if let Some(kind) = kind.filter(|_| !samples.is_empty()) {
            each(name, help, kind, &samples);
        }
    }
}
