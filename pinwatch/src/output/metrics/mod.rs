//! Prometheus metrics: the table of all metrics, their samples, and the text of a scrape.

mod pinned;
mod samples;
mod scrape;
mod series;
mod table;
#[cfg(test)]
mod tests;
pub mod text;

pub use samples::{Kind, Sample, Samples};
pub use scrape::for_each_family;
pub use table::{METRICS, Metric};
