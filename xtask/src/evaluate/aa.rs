//! Comparisons of a kernel with itself: how often the evaluation sees a difference where there is none.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::boots::Boots;
use super::comparison::Found;
use super::side::Side;
use crate::bench::document;
use crate::kernel::Choice;

/// Compares base with itself, each time in new boots.
pub fn run(boots: &Boots<'_>, kernel: &Side, times: u32) -> Result<ExitCode> {
    let started = Instant::now();
    let args = boots.args;
    let named = |name| Side {
        name,
        ..kernel.clone()
    };
    let halves = [named("base"), named("base-again")];
    let mut all = Vec::new();
    for time in 0..times {
        let runs = time * args.repeat + 1..=(time + 1) * args.repeat;
        boots.record(&halves, runs.clone())?;
        let comparison = boots.between(&halves[0], &halves[1], runs);
        let name = format!("comparison-{}", time + 1);
        all.push(comparison.write(&args.output, &name)?);
        eprintln!("xtask: {}", false_alarms(&all).replace('\n', ";"));
    }
    println!("{}", false_alarms(&all));
    let result = Aa {
        kernel: match &args.base {
            Some(Choice::Stock(stock)) => stock.series.to_owned(),
            Some(Choice::Built(name)) => name.clone(),
            None => "own".to_owned(),
        },
        clock: if boots.counting() {
            "instructions"
        } else {
            "time"
        },
        boots: args.repeat,
        took: started.elapsed(),
        comparisons: &all,
    };
    println!("{}", result.extent());
    if args.document {
        document::write_row("evaluation.md", "aa", &result.key(), &result.row())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Comparisons of a kernel with itself.
struct Aa<'a> {
    kernel: String,
    clock: &'static str,
    /// Boots of each side of a comparison.
    boots: u32,
    took: Duration,
    comparisons: &'a [Found],
}

impl Aa<'_> {
    fn all_boots(&self) -> usize {
        2 * self.boots as usize * self.comparisons.len()
    }

    fn figures(&self) -> usize {
        let judged = self.comparisons.iter().map(|found| found.judged);
        judged.sum::<usize>() / self.comparisons.len().max(1)
    }

    fn extent(&self) -> String {
        format!(
            "{} boots of {}, each in one comparison of {} deciding figures; clock: {}; {} s",
            self.all_boots(),
            self.kernel,
            self.figures(),
            self.clock,
            self.took.as_secs()
        )
    }

    /// The cells that tell rows apart.
    fn key(&self) -> String {
        format!("| {} | {} | {} |", self.kernel, self.clock, self.boots)
    }

    fn row(&self) -> String {
        format!(
            "{} {} | {} | {} | {} | {} |",
            self.key(),
            self.comparisons.len(),
            self.figures(),
            alarms(self.comparisons),
            self.all_boots(),
            self.took.as_secs().div_ceil(60)
        )
    }
}

/// The number of comparisons that found a difference.
fn alarms(comparisons: &[Found]) -> usize {
    let alarms = comparisons.iter().filter(|found| !found.differ.is_empty());
    alarms.count()
}

/// What the comparisons found: each difference is a false alarm.
fn false_alarms(comparisons: &[Found]) -> String {
    let mut figures = BTreeMap::new();
    for figure in comparisons.iter().flat_map(|found| &found.differ) {
        *figures.entry(figure).or_insert(0) += 1;
    }
    let mut text = format!(
        "{} of {} comparisons of base with itself found a difference",
        alarms(comparisons),
        comparisons.len()
    );
    for (figure, count) in figures {
        text += &format!("\n  {count} x {figure}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(figures: &[&str]) -> Found {
        Found {
            differ: figures.iter().map(|&figure| figure.to_owned()).collect(),
            judged: 75,
            unresolved: Vec::new(),
        }
    }

    #[test]
    fn false_alarms_are_counted_by_comparison_and_by_figure() {
        let all = [alarm(&["a", "b"]), alarm(&[]), alarm(&["a"])];
        assert_eq!(
            false_alarms(&all),
            "2 of 3 comparisons of base with itself found a difference\n  2 x a\n  1 x b"
        );
    }

    #[test]
    fn a_row_begins_with_its_key() {
        let result = Aa {
            kernel: "6.12".to_owned(),
            clock: "time",
            boots: 3,
            took: Duration::from_secs(61),
            comparisons: &[alarm(&["a"]), alarm(&[])],
        };
        assert_eq!(result.row(), "| 6.12 | time | 3 | 2 | 75 | 1 | 12 | 2 |");
        assert!(result.row().starts_with(&result.key()));
    }
}
