//! Generates files from tables: Grafana dashboards, alerts with their runbook, docs/kernels.md and docs/builds.md.

mod alerts;
pub mod builds_md;
mod command;
mod dashboards;
mod grafana;
pub mod kernels_md;
mod rules;

pub use command::{DocsArgs, main};
