//! How an evaluation proceeds.
//!
//! Without KVM the guests count instructions instead of time. Figures are then repeatable and compare the
//! work of the kernels, not the speed of a machine.

use std::fs;
use std::ops::RangeInclusive;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::args::EvaluateArgs;
use super::boots::{self, Boots, Load};
use super::comparison::{Comparison, Found, false_alarms};
use super::side::{self, Side};
use crate::build;
use crate::cache::Cache;
use crate::setup::{self, Purpose};

impl EvaluateArgs {
    /// Whether kernels have to be built.
    pub fn builds(&self) -> bool {
        !self.new_patches.is_empty()
    }
}

pub fn main(args: &EvaluateArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let scratch = cache.scratch()?;
    let sides = side::sides(args, &cache, scratch.path())?;
    let pinwatch = build::pinwatch()?;
    fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let load = Load {
        repeat: args.load,
        isolation: args.isolation,
        // 5.10 hangs at boot with two processors that count instructions.
        cpus: 1,
    };
    let clock = boots::guest(load, &sides[0], &pinwatch).clock(&cache, &args.mirrors)?;
    let evaluation = Evaluation {
        args,
        boots: Boots {
            load,
            output: &args.output,
            mirrors: &args.mirrors,
            cache: &cache,
            pinwatch,
            clock,
        },
        sides,
    };
    let status = match args.aa {
        Some(times) => evaluation.with_itself(times)?,
        None => evaluation.compared()?,
    };
    eprintln!(
        "xtask: recordings and comparisons are in {}",
        args.output.display()
    );
    Ok(status)
}

struct Evaluation<'a> {
    args: &'a EvaluateArgs,
    boots: Boots<'a>,
    sides: Vec<Side>,
}

impl Evaluation<'_> {
    /// Records all sides and compares each with base. The status is that of new.
    fn compared(&self) -> Result<ExitCode> {
        let args = self.args;
        let mut runs = args.repeat;
        self.boots.record(&self.sides, 1..=runs)?;
        let mut found = self.write(runs)?;
        while args.until_resolved && !found.unresolved.is_empty() {
            let sides = self.sides.len() as u32;
            eprintln!(
                "xtask: after {} boots {} figures are unresolved: {}",
                runs * sides,
                found.unresolved.len(),
                found.unresolved.join("; ")
            );
            if (runs + 1) * sides > args.max_boots {
                break;
            }
            runs += 1;
            self.boots.record(&self.sides, runs..=runs)?;
            found = self.write(runs)?;
        }
        let [_, others @ ..] = self.sides.as_slice() else {
            return Ok(ExitCode::SUCCESS);
        };
        let mut status = 0;
        for other in others.iter().rev() {
            println!("{} and {}:", self.sides[0].name, other.name);
            status = self.comparison(other, runs).show()?;
        }
        if args.until_resolved {
            println!("{}", ending(runs * self.sides.len() as u32, &found));
        }
        Ok(ExitCode::from(status))
    }

    /// Writes all comparisons. Returns all that they found.
    fn write(&self, runs: u32) -> Result<Found> {
        let mut all = Found::default();
        for other in &self.sides[1..] {
            let name = match other.name {
                "new" => "comparison".to_owned(),
                name => format!("comparison-{name}"),
            };
            let found = self
                .comparison(other, runs)
                .write(&self.args.output, &name)?;
            all.differ.extend(found.differ);
            all.unresolved.extend(found.unresolved);
        }
        Ok(all)
    }

    fn comparison(&self, other: &Side, runs: u32) -> Comparison<'_> {
        self.between(&self.sides[0], other, 1..=runs)
    }

    fn between(&self, base: &Side, new: &Side, runs: RangeInclusive<u32>) -> Comparison<'_> {
        let files = |side: &Side| {
            let runs = runs.clone();
            runs.map(|run| self.boots.file(side.name, run)).collect()
        };
        // The functions differ between kernels, and so do the hooks.
        let mut allowed = vec!["hooks"];
        if base.append != new.append {
            allowed.push("command_line");
        }
        allowed.extend(self.args.allow.iter().map(String::as_str));
        let allow = |aspect| ["--allow".to_owned(), str::to_owned(aspect)];
        let mut args: Vec<_> = allowed.into_iter().flat_map(allow).collect();
        if self.boots.counting() {
            args.extend(["--run-spread", "0"].map(str::to_owned));
        }
        Comparison {
            pinwatch: &self.boots.pinwatch,
            base: files(base),
            new: files(new),
            args,
        }
    }

    /// Compares base with itself, each time in new boots.
    fn with_itself(&self, times: u32) -> Result<ExitCode> {
        let named = |name| Side {
            name,
            ..self.sides[0].clone()
        };
        let halves = [named("base"), named("base-again")];
        let boots = self.args.repeat;
        let mut all = Vec::new();
        for time in 0..times {
            let runs = time * boots + 1..=(time + 1) * boots;
            self.boots.record(&halves, runs.clone())?;
            let comparison = self.between(&halves[0], &halves[1], runs);
            let name = format!("comparison-{}", time + 1);
            all.push(comparison.write(&self.args.output, &name)?);
            eprintln!("xtask: {}", false_alarms(&all).replace('\n', ";"));
        }
        println!("{}", false_alarms(&all));
        Ok(ExitCode::SUCCESS)
    }
}

fn ending(boots: u32, found: &Found) -> String {
    match found.unresolved.as_slice() {
        [] => format!("Resolved after {boots} boots."),
        figures => format!(
            "Not resolved after {boots} boots (--max-boots): {}.",
            figures.join("; ")
        ),
    }
}
