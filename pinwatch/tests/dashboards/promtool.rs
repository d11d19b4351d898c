//! What Prometheus' own tool says of the rules and of their tests.

use std::process::Command;

use super::files::{alerts, root};

fn promtool(args: &[&str]) -> String {
    let output = Command::new("promtool")
        .args(args)
        .current_dir(root().join("dashboards"))
        .output()
        .expect("promtool in PATH, as `cargo xtask test` has it");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("UTF-8");
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn the_rules_are_fit_to_be_loaded() {
    let said = promtool(&["check", "rules", "pinwatch-alerts.yml"]);
    let found = format!("{} rules found", alerts().len());
    assert!(said.contains(&found), "{said}");
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
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
            "{} is to fire once and not to fire once",
            alert.name
        );
    }
}

#[test]
fn the_example_of_a_configuration_is_one() {
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"]);
}
