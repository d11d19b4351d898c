//! Generates files from tables: Grafana dashboards, alerts with their runbook, and docs/kernels.md.

mod alerts;
mod command;
mod dashboards;
mod grafana;
pub mod kernels_md;
mod rules;

pub use command::{DocsArgs, main};
