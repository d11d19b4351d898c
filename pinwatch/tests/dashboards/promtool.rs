//! promtool checks the rules, runs their tests, and checks the example configuration.

use std::process::Command;

use super::files::{alerts, root};

/// Runs promtool in dashboards/ and returns its output. Panics if it fails.
fn promtool(args: &[&str]) -> String {
    let output = Command::new("promtool")
        .args(args)
        .current_dir(root().join("dashboards"))
        .output()
        .expect("promtool is in PATH: run `cargo xtask test`");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("UTF-8");
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn promtool_accepts_the_rules() {
    let said = promtool(&["check", "rules", "pinwatch-alerts.yml"]);
    let found = format!("{} rules found", alerts().len());
    assert!(said.contains(&found), "{said}");
}

#[test]
fn every_alert_fires_only_when_it_should() {
    promtool(&["test", "rules", "pinwatch-alerts.test.yml"]);
    let tests = include_str!("../../../dashboards/pinwatch-alerts.test.yml");
    for alert in alerts() {
        let tested = |line: &&str| line.trim() == format!("alertname: {}", alert.name);
        let times = tests
            .lines()
            .filter(|line| tested(&line.trim_start_matches([' ', '-'])))
            .count();
        assert!(
            times >= 2,
            "{} needs two tests in pinwatch-alerts.test.yml: one that fires and one that does not",
            alert.name
        );
    }
}

#[test]
fn promtool_accepts_the_example_configuration() {
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"]);
}
