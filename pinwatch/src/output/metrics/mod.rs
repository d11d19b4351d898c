//! Prometheus metrics: the table of all metrics, their samples, and the text of a scrape.

mod exporter;
mod pinned;
mod samples;
mod series;
mod table;
#[cfg(test)]
mod tests;
pub mod text;

pub use exporter::{Exporter, families};
pub use samples::Kind;
pub use table::{METRICS, Metric};
