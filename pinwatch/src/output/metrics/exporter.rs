//! Metric families of a state, in the types of the `prometheus` crate.

#![forbid(unsafe_code)]

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::samples::{Kind, Samples};
use super::table::{METRICS, Metric};
use crate::model::state::State;

/// Metric families of a state, in the order of [`METRICS`]. A family without samples is left out.
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
    // The registry drops empty families of its own metrics only, not those of a collector.
    families
        .filter(|family| !family.get_metric().is_empty())
        .collect()
}

/// Collector for a [`prometheus::Registry`]. The function returns the current state; `None` gives no
/// families.
pub struct Exporter<F>(pub F);

impl<F: Fn() -> Option<State> + Send + Sync> Collector for Exporter<F> {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        self.0().map(|state| families(&state)).unwrap_or_default()
    }
}
