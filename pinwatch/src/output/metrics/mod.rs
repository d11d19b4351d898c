//! Prometheus metrics: the table of all metrics, their samples, and OpenMetrics text.

mod exporter;
pub mod openmetrics;
mod samples;
mod series;
mod table;

pub use exporter::{Exporter, families};
pub use table::{Kind, METRICS, Metric};
