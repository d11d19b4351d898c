//! Prometheus metrics: the table, and the two text formats.

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
