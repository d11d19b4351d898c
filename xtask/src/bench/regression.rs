//! The regression test of `cargo xtask test`: pinwatch must not add more instructions to a pin than
//! docs/performance.json records. It compares ratios to the empty pair of the same boot, so neither the host nor the
//! kernel's point release matters.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::figures::{EVERYTHING, Figures, PAIRS};
use super::guest::BenchGuest;
use super::overhead::{self, JSON};
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels;

const KERNEL: &str = "6.12";
/// Relative limit: the recorded ratio may grow by this factor.
const SLACK: f64 = 1.05;
/// Kinds of pin whose overhead does not depend on the kernel's other work.
const PINS: [&str; 2] = ["one", "short_term"];
/// Sets of hooks, and the empty pairs to compare them with.
const SETS: [(&str, &str); 2] = [(EVERYTHING[0], PAIRS[0]), (EVERYTHING[1], PAIRS[1])];

pub fn check(cache: &Cache, mirrors: &MirrorArgs, program: PathBuf) -> Result<()> {
    let machine = BenchGuest::new(cache, mirrors, program);
    let recorded: Value = serde_json::from_str(&fs::read_to_string(JSON)?)?;
    let sets: Vec<_> = ["nothing"]
        .into_iter()
        .chain(SETS.into_iter().flat_map(|(set, pair)| [set, pair]))
        .map(str::to_owned)
        .collect();
    let measured = overhead::measure(&machine, kernels::parse(KERNEL)?, &sets, 1)?;
    compare(&recorded[KERNEL], &measured)
}

fn compare(recorded: &Value, measured: &Figures) -> Result<()> {
    for (set, pair) in SETS {
        for pin in PINS {
            let ratio = |added: &dyn Fn(&str) -> Option<i64>| {
                let missing = || format!("no figure of {set}, {pin}");
                let [own, limit] = [added(set), added(pair)];
                Ok::<f64, anyhow::Error>(
                    own.with_context(missing)? as f64 / limit.with_context(missing)? as f64,
                )
            };
            let before = ratio(&|set| recorded[set][pin].as_i64())?;
            let now = ratio(&|set| measured.median_added(set, pin))?;
            eprintln!("xtask: {set}, {pin}: {now:.2} empty pairs, {before:.2} recorded");
            ensure!(
                now <= before * SLACK,
                "{set}: a pin ({pin}) costs {now:.2} times the {pair}, recorded are {before:.2}; \
                 if that is meant, run `cargo xtask bench overhead`"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn five_percent_are_allowed() {
        let recorded = json!({
            "pinwatch, fentry": {"one": 400, "short_term": 110},
            "empty fentry and fexit": {"one": 100, "short_term": 100},
            "pinwatch, kprobe": {"one": 400, "short_term": 110},
            "empty kprobe and kretprobe": {"one": 100, "short_term": 100},
        });
        let measured = |one: i64| {
            let mut output = String::new();
            for pin in PINS {
                output += &format!("{{\"set\":\"nothing\",\"pin\":\"{pin}\",\"clock\":0}}\n");
                for (set, pair) in SETS {
                    let own = if pin == "one" { one } else { 110 };
                    for (set, clock) in [(set, own), (pair, 100)] {
                        output +=
                            &format!("{{\"set\":\"{set}\",\"pin\":\"{pin}\",\"clock\":{clock}}}\n");
                    }
                }
            }
            let mut figures = Figures::default();
            figures.read(&output).unwrap();
            figures
        };
        assert!(compare(&recorded, &measured(419)).is_ok());
        let error = compare(&recorded, &measured(421)).unwrap_err().to_string();
        assert!(error.contains("costs 4.21 times"), "{error}");
    }
}
