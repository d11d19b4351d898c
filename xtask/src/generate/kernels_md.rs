//! Generates docs/kernels.md from the live tests: the result of every scenario on every kernel.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::debian::kernels::KERNELS;

/// The live tests print rows as `kernels.md: SCENARIO | EXPECTED | SEEN`.
pub const MARK: &str = "kernels.md: ";

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kernels.md");

/// The result of a scenario on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioResult {
    pub scenario: String,
    pub expected: String,
    pub seen: String,
}

impl ScenarioResult {
    /// Parses a line with [`MARK`].
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(MARK).nth(1)?.split(" | ").map(str::trim);
        let mut next = || fields.next().map(str::to_owned);
        Some(Self {
            scenario: next()?,
            expected: next()?,
            seen: next()?,
        })
    }
}

/// Writes the table. Fails if it differs from the committed one.
pub fn update(rows: &BTreeMap<String, Vec<ScenarioResult>>) -> Result<()> {
    let made = table(rows);
    let there = fs::read_to_string(FILE).unwrap_or_default();
    if there != made {
        fs::write(FILE, &made).context(FILE)?;
    }
    ensure!(
        there == made,
        "docs/kernels.md was stale; it is updated: check and commit it"
    );
    Ok(())
}

/// Rows by kernel to a table of scenarios by kernel.
fn table(rows: &BTreeMap<String, Vec<ScenarioResult>>) -> String {
    let mut text = String::from(
        "# Kernels\n\nWritten by `cargo xtask test`: what the metrics say of each scenario of `pinwatch load`, on stock \
         Debian kernels in\nVMs. `ok`, or errno and cause of the failures; where it is not what was expected, both.\n\n| Scenario |",
    );
    let series = KERNELS.iter().map(|kernel| kernel.series);
    for series in series.clone() {
        let _ = write!(text, " {series} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(KERNELS.len()));
    // Scenarios of all kernels come before those that need a guest of their own.
    let most = rows.values().max_by_key(|rows| rows.len());
    let mut scenarios: Vec<_> = most.into_iter().flatten().collect();
    let kernels = |result: &ScenarioResult| {
        let has =
            |rows: &&Vec<ScenarioResult>| rows.iter().any(|row| row.scenario == result.scenario);
        rows.values().filter(has).count()
    };
    scenarios.sort_by_key(|result| Reverse(kernels(result)));
    for ScenarioResult { scenario, .. } in scenarios {
        let _ = write!(text, "| `{scenario}` |");
        for series in series.clone() {
            let row = rows
                .get(series)
                .and_then(|rows| rows.iter().find(|row| row.scenario == *scenario));
            let cell = match row {
                Some(ScenarioResult { expected, seen, .. }) if expected == seen => seen.clone(),
                Some(ScenarioResult { expected, seen, .. }) => {
                    format!("{seen}, expected {expected}")
                }
                None => "not run".to_owned(),
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_behind_what_libtest_puts_before_them() {
        let line = "test scenarios::all ... kernels.md: held-one | ok | ENOMEM migrate_busy";
        let row = ScenarioResult::parse(line).unwrap();
        assert_eq!(
            (row.scenario.as_str(), row.expected.as_str()),
            ("held-one", "ok")
        );
        let table = table(&BTreeMap::from([("6.12".to_owned(), vec![row])]));
        assert!(
            table.contains("| `held-one` | not run | not run | ENOMEM migrate_busy, expected ok |")
        );
        assert_eq!(ScenarioResult::parse("test a ... ok"), None);
    }
}
