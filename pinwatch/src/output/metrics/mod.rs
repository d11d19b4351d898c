//! Prometheus metrics: the table of all metrics, their samples, and OpenMetrics text.

mod exporter;
pub mod openmetrics;
mod samples;
mod series;
mod table;
#[cfg(test)]
mod tests;

pub use exporter::{Exporter, families};
pub use samples::Kind;
pub use table::{METRICS, Metric};
