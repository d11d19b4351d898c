//! Comparisons of a kernel with itself: how often the evaluation sees a difference where there is none.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::args::EvaluateArgs;
use super::boots::Boots;
use super::comparison::{Comparison, Found};
use super::side::Side;
use crate::bench::document;
use crate::kernel::Choice;

/// Compares base with itself, many times.
pub fn run(args: &EvaluateArgs, boots: &Boots<'_>, kernel: &Side, times: u32) -> Result<ExitCode> {
    let started = Instant::now();
    let all = match args.boots {
        Some(number) => of_drawn_boots(args, boots, kernel, times, number)?,
        None => of_new_boots(args, boots, kernel, times)?,
    };
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
        each: args.repeat,
        boots: args.boots.unwrap_or(2 * args.repeat * times),
        took: started.elapsed(),
        comparisons: &all,
    };
    println!("{}", result.extent());
    if args.document {
        document::write_row("evaluation.md", "aa", &result.key(), &result.row())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares new boots each time.
fn of_new_boots(
    args: &EvaluateArgs,
    boots: &Boots<'_>,
    kernel: &Side,
    times: u32,
) -> Result<Vec<Found>> {
    let each = args.repeat;
    let named = |name| Side {
        name,
        ..kernel.clone()
    };
    let halves = [named("base"), named("base-again")];
    let mut all = Vec::new();
    for time in 0..times {
        let runs = time * each + 1..=(time + 1) * each;
        boots.record(&halves, runs.clone())?;
        let runs: Vec<_> = runs.collect();
        let comparison = boots.between(&args.allow, (&halves[0], &runs), (&halves[1], &runs));
        compare(boots, &comparison, &mut all)?;
    }
    Ok(all)
}

/// Compares boots that are drawn from a number of them.
fn of_drawn_boots(
    args: &EvaluateArgs,
    boots: &Boots<'_>,
    kernel: &Side,
    times: u32,
    number: u32,
) -> Result<Vec<Found>> {
    let each = args.repeat;
    ensure!(
        number >= 2 * each,
        "--boots {number} is too few: a comparison needs {} (--repeat {each})",
        2 * each
    );
    boots.record(std::slice::from_ref(kernel), 1..=number)?;
    let mut random = fastrand::Rng::with_seed(number.into());
    let mut all = Vec::new();
    for _ in 0..times {
        let [one, other] = drawn(&mut random, number, each);
        let comparison = boots.between(&args.allow, (kernel, &one), (kernel, &other));
        compare(boots, &comparison, &mut all)?;
    }
    Ok(all)
}

/// Two sets of boots that have none in common. Of two consecutive boots, each set has one: an evaluation alternates
/// its boots too, so that a host that becomes slower hits both sides alike.
fn drawn(random: &mut fastrand::Rng, number: u32, each: u32) -> [Vec<u32>; 2] {
    let mut pairs: Vec<_> = (1..=number / 2).map(|n| [2 * n - 1, 2 * n]).collect();
    random.shuffle(&mut pairs);
    let mut sets = [Vec::new(), Vec::new()];
    for mut pair in pairs.into_iter().take(each as usize) {
        random.shuffle(&mut pair);
        for (set, boot) in sets.iter_mut().zip(pair) {
            set.push(boot);
        }
    }
    sets
}

fn compare(boots: &Boots<'_>, comparison: &Comparison<'_>, all: &mut Vec<Found>) -> Result<()> {
    let name = format!("comparison-{}", all.len() + 1);
    all.push(comparison.write(boots.output, &name)?);
    eprintln!("xtask: {}", false_alarms(all).replace('\n', ";"));
    Ok(())
}

/// Comparisons of a kernel with itself.
struct Aa<'a> {
    kernel: String,
    clock: &'static str,
    /// Boots of each side of a comparison.
    each: u32,
    /// Boots of all comparisons.
    boots: u32,
    took: Duration,
    comparisons: &'a [Found],
}

impl Aa<'_> {
    fn figures(&self) -> usize {
        let judged = self.comparisons.iter().map(|found| found.judged);
        judged.sum::<usize>() / self.comparisons.len().max(1)
    }

    fn extent(&self) -> String {
        let used = 2 * self.each * self.comparisons.len() as u32;
        let reuse = match used.div_ceil(self.boots) {
            1 => "each in one comparison".to_owned(),
            times => format!("each in about {times} comparisons, which depend on each other"),
        };
        format!(
            "{} boots of {}, {reuse}; {} deciding figures; clock: {}; {} s",
            self.boots,
            self.kernel,
            self.figures(),
            self.clock,
            self.took.as_secs()
        )
    }

    /// The cells that tell rows apart.
    fn key(&self) -> String {
        format!("| {} | {} | {} |", self.kernel, self.clock, self.each)
    }

    fn row(&self) -> String {
        format!(
            "{} {} | {} | {} | {} | {} |",
            self.key(),
            self.comparisons.len(),
            self.figures(),
            alarms(self.comparisons),
            self.boots,
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
    use std::collections::BTreeSet;

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
    fn drawn_boots_are_on_one_side_only() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let [one, other] = drawn(&mut random, 7, 3);
            let all: BTreeSet<_> = one.iter().chain(&other).collect();
            assert_eq!(all.len(), 6, "{one:?} {other:?}");
            assert!(all.iter().all(|boot| (1..=6).contains(*boot)));
            let consecutive = one.iter().zip(&other);
            assert!(
                consecutive
                    .into_iter()
                    .all(|(a, b)| a.div_ceil(2) == b.div_ceil(2))
            );
        }
    }

    #[test]
    fn a_row_begins_with_its_key() {
        let result = Aa {
            kernel: "6.12".to_owned(),
            clock: "time",
            each: 3,
            boots: 12,
            took: Duration::from_secs(61),
            comparisons: &[alarm(&["a"]), alarm(&[])],
        };
        assert_eq!(result.row(), "| 6.12 | time | 3 | 2 | 75 | 1 | 12 | 2 |");
        assert!(result.row().starts_with(&result.key()));
        assert!(result.extent().contains("each in one comparison;"));
        let reused = Aa { boots: 6, ..result };
        assert!(reused.extent().contains("each in about 2 comparisons"));
    }
}
