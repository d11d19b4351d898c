//! What Grafana shows: a row per panel. `dashboards/*.json` is made from these, and
//! a test runs every query against a Prometheus that scrapes every metric.
//!
//! Queries may use Grafana's `$__rate_interval` and the variables of their dashboard.

mod fleet;
mod host;
mod kernels;
mod panel;

pub use panel::{DASHBOARDS, Dashboard, Panel, Query, Row, Shape, Unit, Variable};
