//! How an evaluation proceeds.
//!
//! Without KVM the guests count instructions instead of time, unless `--clock time` is given. Figures are then
//! repeatable and compare the work of the kernels, not the speed of a machine.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::aa;
use super::args::EvaluateArgs;
use super::boots::{self, Boots, Load};
use super::comparison::{Comparison, Found};
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
    let clock = boots::guest(load, boots::LIMIT, &sides[0], &pinwatch).clocked(
        args.clock,
        &cache,
        &args.mirrors,
    )?;
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
        Some(times) => aa::run(args, &evaluation.boots, &evaluation.sides[0], times)?,
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
        let sides = self.sides.len() as u32;
        let most = args.max_boots / sides;
        while args.until_resolved && found.is_resolvable(runs, most) {
            eprintln!("xtask: after {} boots {}", runs * sides, found.unresolved());
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
            println!("{}", ending(runs * sides, &found));
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
        let runs: Vec<_> = (1..=runs).collect();
        let accepted = &self.args.allow;
        self.boots
            .between(accepted, (&self.sides[0], &runs), (other, &runs))
    }
}

fn ending(boots: u32, found: &Found) -> String {
    if found.unresolved.is_empty() {
        return format!("Resolved after {boots} boots.");
    }
    format!(
        "After {boots} boots {}. They need more boots than --max-boots allows, or more pins in each: --load.",
        found.unresolved()
    )
}
