//! The metrics of a state as the `prometheus` crate takes them.

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::samples::{Kind, Samples};
use super::table::{METRICS, Metric};
use crate::model::state::State;

/// Turns a state into metric families.
#[must_use]
pub fn families(state: &State) -> Vec<proto::MetricFamily> {
    let families = METRICS.iter().map(
        |Metric {
             name,
             help,
             kind,
             samples,
         }| {
            let mut out = Samples {
                kind: *kind,
                metrics: Vec::new(),
            };
            samples(state, &mut out);
            let mut family = proto::MetricFamily::default();
            family.set_name((*name).to_owned());
            family.set_help((*help).to_owned());
            family.set_field_type(match kind {
                Kind::Counter => proto::MetricType::COUNTER,
                Kind::Gauge => proto::MetricType::GAUGE,
                Kind::Histogram => proto::MetricType::HISTOGRAM,
            });
            family.set_metric(out.metrics);
            family
        },
    );
    // The registry drops families without samples only of its own metrics.
    families
        .filter(|family| !family.get_metric().is_empty())
        .collect()
}

/// Lets a [`prometheus::Registry`] collect the states that a function gives.
pub struct Exporter<F>(pub F);

impl<F: Fn() -> Option<State> + Send + Sync> Collector for Exporter<F> {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        self.0().map(|state| families(&state)).unwrap_or_default()
    }
}
