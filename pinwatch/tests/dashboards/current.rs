//! Files that are made from the tables in the code.

use std::path::{Path, PathBuf};

use pinwatch::output::alerts::ALERTS;
use pinwatch::output::dashboards::DASHBOARDS;

use super::{grafana, rules};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn assert_current(file: &str, made: &str) {
    let path = root().join(file);
    if std::env::var_os("PINWATCH_UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).expect("it can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "{file} is stale: cargo xtask docs");
}

#[test]
fn dashboards() {
    for dashboard in DASHBOARDS {
        let file = format!("dashboards/{}.json", dashboard.uid);
        assert_current(&file, &grafana::json(dashboard));
    }
}

#[test]
fn alerts_and_their_runbook() {
    assert_current("dashboards/pinwatch-alerts.yml", &rules::yaml(ALERTS));
    assert_current("docs/runbook.md", &rules::runbook(ALERTS));
}
