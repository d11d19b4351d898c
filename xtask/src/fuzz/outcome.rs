//! Results of all targets: as a table for people, and as one for docs/reliability.md.

use std::fmt::Write;

use super::libfuzzer::Progress;
use super::targets::Target;
use crate::bench::document::thousands;

/// Result of one target.
pub struct Outcome {
    pub target: &'static Target,
    pub seconds: u64,
    /// Bytes of all inputs.
    pub bytes: u64,
    pub progress: Progress,
    /// Whether it ended by itself and found no failure.
    pub passed: bool,
}

impl Outcome {
    /// Why it failed, where the input is, and the command that repeats it.
    pub fn failure(&self) -> String {
        let name = self.target.name;
        let why = self.progress.failure.as_deref();
        let mut text = format!(
            "{name}: {}",
            why.unwrap_or("the fuzzer did not end in time")
        );
        if let Some(input) = &self.progress.input {
            let _ = write!(
                text,
                "\n  input: {input}\n  repeat it: cargo xtask fuzz --target {name} --input {input}"
            );
        }
        text
    }
}

/// The table on standard output.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<12} {:>8} {:>13} {:>9} {:>12} {:>15}  result\n",
        "target", "seconds", "executions", "coverage", "corpus", "bytes"
    );
    for outcome in outcomes {
        let Progress {
            executions,
            coverage,
            corpus,
            ..
        } = &outcome.progress;
        let _ = writeln!(
            text,
            "{:<12} {:>8} {:>13} {:>9} {:>12} {:>15}  {}",
            outcome.target.name,
            outcome.seconds,
            grouped(*executions),
            grouped(*coverage),
            corpus,
            grouped(outcome.bytes),
            if outcome.passed { "passed" } else { "FAILED" }
        );
    }
    text
}

/// The table for docs/reliability.md.
pub fn document(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| Target | Input | Seconds | Executions | Bytes read |\n|---|---|---|---|---|\n",
    );
    for Outcome {
        target,
        seconds,
        bytes,
        progress,
        ..
    } in outcomes
    {
        let _ = writeln!(
            text,
            "| `{}` | {} | {seconds} | {} | {} |",
            target.name,
            target.input,
            grouped(progress.executions),
            grouped(*bytes)
        );
    }
    text
}

fn grouped(n: u64) -> String {
    thousands(n.try_into().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::targets::TARGETS;
    use super::*;

    fn outcome(passed: bool) -> Outcome {
        let progress = Progress {
            executions: 12_345,
            coverage: 678,
            corpus: "9/10Kb".to_owned(),
            failure: (!passed).then(|| "src/a.rs:1:1: overflow".to_owned()),
            input: (!passed).then(|| "target/fuzz/crash-1".to_owned()),
            ..Progress::default()
        };
        Outcome {
            target: &TARGETS[0],
            seconds: 60,
            bytes: 2_000_000,
            progress,
            passed,
        }
    }

    #[test]
    fn a_row_has_the_figures() {
        let text = table(&[outcome(true), outcome(false)]);
        let rows: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[1],
            [
                "recording",
                "60",
                "12,345",
                "678",
                "9/10Kb",
                "2,000,000",
                "passed"
            ]
        );
        assert_eq!(rows[2].last(), Some(&"FAILED"));
        assert!(document(&[outcome(true)]).ends_with("| 60 | 12,345 | 2,000,000 |\n"));
    }

    #[test]
    fn a_failure_says_how_to_repeat_it() {
        let text = outcome(false).failure();
        assert!(text.starts_with("recording: src/a.rs:1:1: overflow\n"));
        assert!(text.ends_with("--target recording --input target/fuzz/crash-1"));
    }
}
