//! `cargo xtask docs`: everything that is made from tables in the code, written anew.
//!
//! The tests that fail when one of these files is stale write them.

use std::process::ExitCode;

use anyhow::Result;

use crate::build;
use crate::cache::Cache;
use crate::child;
use crate::setup::{self, Purpose};

/// Write docs/metrics.md, probes.md, runbook.md, and all of dashboards/ from the code
#[derive(clap::Args)]
pub struct DocsArgs {}

pub fn main(DocsArgs {}: &DocsArgs) -> Result<ExitCode> {
    setup::ensure(&Cache::open()?, Purpose::Tests)?;
    // Of the dashboards' tests only those that write: the others need Prometheus.
    for tests in [&["docs"][..], &["dashboards", "current::"]] {
        let mut cargo = build::cargo();
        cargo
            .args(["test", "--package", "pinwatch"])
            .args(["--features", "screens", "--test"])
            .args(tests)
            .env("PINWATCH_UPDATE_DOCS", "1");
        child::run(&mut cargo)?;
    }
    Ok(ExitCode::SUCCESS)
}
