//! Writes the alerts as Prometheus rules and as docs/runbook.md.

use std::fmt::Write as _;

use super::alerts::{Alert, Severity};

const FILE: &str = "Generated from `ALERTS` in xtask/src/generate/alerts.rs";

/// The condition of an alert, in PromQL.
pub fn expression(Alert { value, is, .. }: &Alert) -> String {
    // A comparison binds tighter than `and`, `or` and `unless`: without parentheses, it would compare only
    // the operand after the last of them.
    if [" and ", " or ", " unless "]
        .iter()
        .any(|word| value.contains(word))
    {
        format!("({value}) {is}")
    } else {
        format!("{value} {is}")
    }
}

fn severity(alert: &Alert) -> &'static str {
    match alert.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
    }
}

/// A quoted string. YAML accepts JSON strings.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

/// The text of `dashboards/pinwatch-alerts.yml`.
pub fn yaml(alerts: &[Alert]) -> String {
    let mut text =
        format!("# {FILE}: cargo xtask docs.\ngroups:\n  - name: pinwatch\n    rules:\n");
    for alert in alerts {
        let page = format!("docs/runbook.md#{}", alert.name.to_lowercase());
        write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        \
             annotations:\n          summary: {}\n          runbook: {}\n",
            alert.name,
            quoted(&expression(alert)),
            alert.lasts,
            severity(alert),
            quoted(alert.summary),
            quoted(&page),
        )
        .expect("a String");
    }
    text
}

/// The text of `docs/runbook.md`.
pub fn runbook(alerts: &[Alert]) -> String {
    let mut text = format!(
        "# Runbook\n\n{FILE}. The rules are in `dashboards/pinwatch-alerts.yml`.\n\
         The Debian package installs them in `/usr/share/pinwatch`.\n"
    );
    for alert in alerts {
        let Alert {
            name,
            lasts,
            meaning,
            normal,
            act,
            ..
        } = alert;
        write!(
            text,
            "\n## {name}\n\n`{}` for {lasts}, {}.\n\n{meaning}\n\nNormal: {normal}\n\nLook at:\n\n",
            expression(alert),
            severity(alert)
        )
        .expect("a String");
        for step in alert.look {
            writeln!(text, "- {step}").expect("a String");
        }
        writeln!(text, "\nDo: {act}").expect("a String");
    }
    text
}
