//! Compares the attached hooks with the plan.

use std::process::Command;

use serde_json::Value;

use super::daemon::{Daemon, KINDS};
use super::load::{hides_drains, loses_memfd};

#[test]
fn exactly_the_planned_hooks_are_attached() {
    for kind in KINDS {
        // 1: something is lost. Of the kernels between the series, some lose the pins of memfd_pin_folios.
        let status = hides_drains() || loses_memfd();
        assert_attached_is_planned(kind, status.into());
    }
}

/// Compares the hooks in the metrics with those of `pinwatch check`, which must exit with `status`.
pub fn assert_attached_is_planned(kind: &str, status: i32) {
    let output = Command::new("pinwatch")
        .args(["check", "--json", "--attach", kind])
        .output()
        .expect("pinwatch");
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let decisions = plan["decisions"].as_array().expect("decisions");
    let mut planned: Vec<String> = decisions
        .iter()
        .flat_map(|decision| {
            let hooks = decision["attachments"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            hooks.into_iter().map(|hook| {
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                let (name, target, kind) = (
                    text(&decision["measurement"]),
                    text(&hook["target"]),
                    text(&hook["kind"]),
                );
                format!("{{measurement=\"{name}\",hook=\"{target}\",kind=\"{kind}\"}}")
            })
        })
        .collect();
    planned.sort();
    let daemon = Daemon::start(&["--attach", kind]);
    let metrics = daemon.metrics();
    let attached: Vec<_> = metrics.series("pinwatch_probe_attached").collect();
    assert!(
        attached.iter().all(|(_, value)| *value == 1.0),
        "{attached:?}"
    );
    assert_eq!(
        attached
            .into_iter()
            .map(|(labels, _)| labels)
            .collect::<Vec<_>>(),
        planned
    );
    assert_eq!(output.status.code(), Some(status));
}
