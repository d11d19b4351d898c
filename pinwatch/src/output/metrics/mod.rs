//! Prometheus metrics: the table, and the two text formats.

mod exporter;
pub mod openmetrics;
mod samples;
mod series;
mod table;

pub use exporter::{Exporter, families};
pub use table::{Kind, METRICS, Metric};
