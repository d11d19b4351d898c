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
    let mut tests = build::cargo();
    tests
        .args(["test", "--package", "pinwatch"])
        .args(["--features", "screens"])
        .args(["--test", "docs", "--test", "dashboards"])
        .env("PINWATCH_UPDATE_DOCS", "1");
    child::run(&mut tests)?;
    Ok(ExitCode::SUCCESS)
}
