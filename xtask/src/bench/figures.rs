//! The figures of `bench overhead`: reads the output of guests, and makes the table and the file that
//! `bench/regression` compares with.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::document::thousands;

/// Kinds of pin: the guest's name, and the column's title.
const PINS: [(&str, &str); 4] = [
    ("one", "1 page"),
    ("many", "512 pages"),
    ("migrated", "256 pages, migrated"),
    ("short_term", "1 page, short-term"),
];
/// How programs are attached.
pub const KINDS: [&str; 2] = ["fentry", "kprobe"];
/// Empty programs of each kind at entry and return: the lower bound for measuring a duration.
pub const PAIRS: [&str; 2] = ["empty fentry and fexit", "empty kprobe and kretprobe"];
/// pinwatch with its default measurements, by kind of hook.
pub const EVERYTHING: [&str; 2] = ["pinwatch, fentry", "pinwatch, kprobe"];
/// The set without hooks: the baseline.
const NOTHING: &str = "nothing";

/// A set of hooks: instructions by kind of pin and run.
struct HookSet {
    set: String,
    /// The empty pair that it is compared with.
    pair: Option<String>,
    readings: [Vec<i64>; PINS.len()],
    error: Option<String>,
}

/// All sets on one kernel.
#[derive(Default)]
pub struct Figures {
    rows: Vec<HookSet>,
}

impl Figures {
    /// Adds the output of one boot.
    pub fn read(&mut self, output: &str) -> Result<()> {
        for line in output.lines() {
            let value: Value = serde_json::from_str(line).with_context(|| {
                format!("the guest printed a line that is not a figure: {line}")
            })?;
            let text = |key: &str| value[key].as_str().map(str::to_owned);
            let set = text("set").context("a figure has no set")?;
            let at = self.rows.iter().position(|row| row.set == set);
            let at = at.unwrap_or_else(|| {
                self.rows.push(HookSet {
                    set,
                    pair: text("pair"),
                    readings: Default::default(),
                    error: None,
                });
                self.rows.len() - 1
            });
            let row = &mut self.rows[at];
            row.error = row.error.take().or(text("error"));
            let pin = PINS.iter().position(|(name, _)| value["pin"] == *name);
            if let (Some(pin), Some(clock)) = (pin, value["clock"].as_i64()) {
                row.readings[pin].push(clock);
            }
        }
        Ok(())
    }

    fn row(&self, set: &str) -> Option<&HookSet> {
        self.rows.iter().find(|row| row.set == set)
    }

    /// Instructions that a set adds to a pin, by run.
    fn added(&self, row: &HookSet, pin: usize) -> Vec<i64> {
        let Some(base) = self.row(NOTHING) else {
            return Vec::new();
        };
        let pairs = row.readings[pin].iter().zip(&base.readings[pin]);
        pairs.map(|(with, without)| with - without).collect()
    }

    /// Median over the runs of the instructions that a set adds to a pin.
    pub fn median_added(&self, set: &str, pin: &str) -> Option<i64> {
        let pin = PINS.iter().position(|(name, _)| *name == pin)?;
        median(self.added(self.row(set)?, pin))
    }

    /// The error of a set that has no figures.
    pub fn error(&self, set: &str) -> Option<&str> {
        self.row(set)?.error.as_deref()
    }

    /// The ratio to the empty pair of its kind.
    fn times_pair(&self, row: &HookSet) -> Option<f64> {
        let pair = self.row(row.pair.as_deref()?)?;
        let [own, limit] = [row, pair].map(|row| median(self.added(row, 0)));
        Some(own? as f64 / limit? as f64)
    }

    pub fn table(&self) -> String {
        let mut text = String::from("| Attached |");
        for (_, head) in PINS {
            let _ = write!(text, " {head} |");
        }
        text += " 1 page, in empty pairs |\n|---|---|---|---|---|---|\n";
        for row in &self.rows {
            let _ = write!(text, "| {} |", row.set);
            for pin in 0..PINS.len() {
                let figure = match row.set.as_str() {
                    NOTHING => median(row.readings[pin].clone()),
                    _ => median(self.added(row, pin)),
                };
                let _ = match figure {
                    Some(figure) => write!(text, " {} |", thousands(figure)),
                    None => write!(text, " - |"),
                };
            }
            let times = self.times_pair(row).filter(|times| times.is_finite());
            let _ = match (times, &row.error) {
                (_, Some(error)) => writeln!(text, " {} |", error.replace(['\n', '|'], " ")),
                (Some(times), None) => writeln!(text, " {times:.2} |"),
                (None, None) => writeln!(text, " |"),
            };
        }
        text + &self.spread_row()
    }

    /// The largest difference between two runs in each column.
    fn spread_row(&self) -> String {
        let mut text = String::from("| *largest difference between runs* |");
        for pin in 0..PINS.len() {
            let spreads = self.rows.iter().filter_map(|row| {
                let added = self.added(row, pin);
                Some(added.iter().max()? - added.iter().min()?)
            });
            let _ = write!(text, " {} |", thousands(spreads.max().unwrap_or_default()));
        }
        text + " |\n"
    }

    /// Instructions that each set adds to each kind of pin.
    pub fn json(&self) -> Value {
        let mut sets = Map::new();
        for row in self.rows.iter().filter(|row| row.error.is_none()) {
            let pins = PINS.iter().enumerate().filter_map(|(n, (name, _))| {
                Some(((*name).to_owned(), json!(median(self.added(row, n))?)))
            });
            sets.insert(row.set.clone(), Value::Object(pins.collect()));
        }
        Value::Object(sets)
    }
}

fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_the_median_over_runs() {
        let mut figures = Figures::default();
        for (base, with) in [(100, 130), (101, 141), (100, 135)] {
            let run = format!(
                "{{\"set\":\"nothing\",\"pin\":\"one\",\"clock\":{base}}}\n\
                 {{\"set\":\"pair\",\"pair\":\"pair\",\"pin\":\"one\",\"clock\":{with}}}\n\
                 {{\"set\":\"broken\",\"error\":\"no such function\"}}\n"
            );
            figures.read(&run).unwrap();
        }
        assert_eq!(figures.median_added("pair", "one"), Some(35));
        assert_eq!(figures.error("pair"), None);
        assert_eq!(figures.error("broken"), Some("no such function"));
        let table = figures.table();
        assert!(table.contains("| nothing | 100 | - | - | - | |"), "{table}");
        assert!(
            table.contains("| pair | 35 | - | - | - | 1.00 |"),
            "{table}"
        );
        assert!(table.contains("| broken | - | - | - | - | no such function |"));
        assert!(table.contains("runs* | 10 | 0 |"), "{table}");
        assert_eq!(figures.json()["pair"]["one"], 35);
    }
}
