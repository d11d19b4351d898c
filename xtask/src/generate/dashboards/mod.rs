//! Grafana dashboards as tables, one row per panel. `dashboards/*.json` is generated from them. The tests in
//! `pinwatch/tests/dashboards` run every query against a Prometheus that scrapes every metric.
//!
//! Queries may use Grafana's `$__rate_interval` and the variables of their dashboard.

mod fleet;
mod host;
mod kernels;
mod panel;

pub use panel::{Dashboard, Panel, Shape, Unit, Variable};

pub const DASHBOARDS: &[Dashboard] = &[host::HOST, fleet::FLEET, kernels::KERNELS];
