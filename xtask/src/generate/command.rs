//! `cargo xtask docs`: writes every file that is generated from tables in the code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::alerts::ALERTS;
use super::dashboards::DASHBOARDS;
use super::{grafana, rules};
use crate::build;
use crate::cache::Cache;
use crate::child;
use crate::question;
use crate::setup::{self, Purpose};

/// Write the generated files: docs/metrics.md, probes.md, configuration.md, runbook.md, dashboards/
///
/// The tables are in pinwatch and in xtask/src/generate. `cargo xtask test` fails if a generated
/// file differs from its table.
#[derive(clap::Args)]
pub struct DocsArgs {}

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub fn main(DocsArgs {}: &DocsArgs) -> Result<ExitCode> {
    for (path, text) in generated().into_iter().chain([question::generated()?]) {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    // Only pinwatch's own tests can read its tables.
    setup::ensure(&Cache::open()?, Purpose::All)?;
    let mut cargo = build::cargo();
    cargo
        .args(["test", "--package", "pinwatch", "--test", "docs"])
        .env("PINWATCH_UPDATE_DOCS", "1");
    child::run(&mut cargo)?;
    Ok(ExitCode::SUCCESS)
}

/// Path and text of each file that is generated from the tables in this folder.
fn generated() -> Vec<(PathBuf, String)> {
    let dashboards = DASHBOARDS.iter().map(|dashboard| {
        let file = format!("dashboards/{}.json", dashboard.uid);
        (file, grafana::json(dashboard))
    });
    let alerts = [
        (
            "dashboards/pinwatch-alerts.yml".to_owned(),
            rules::yaml(ALERTS),
        ),
        ("docs/runbook.md".to_owned(), rules::runbook(ALERTS)),
    ];
    dashboards
        .chain(alerts)
        .map(|(file, text)| (Path::new(ROOT).join(file), text))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_equal_their_tables() {
        for (path, text) in generated() {
            let there = fs::read_to_string(&path).unwrap_or_default();
            let path = path.display();
            assert!(
                there == text,
                "{path} is stale: run `cargo xtask docs` and commit the result"
            );
        }
    }
}
