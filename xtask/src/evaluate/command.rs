//! The command line of `cargo xtask evaluate`, and how an evaluation proceeds.
//!
//! Without KVM the guests count instructions instead of time. Figures are then repeatable and compare the
//! work of the kernels, not the speed of a machine.

use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::boots::{self, Boots};
use super::comparison::{Comparison, Found, false_alarms};
use super::side::{self, Side};
use crate::build;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::kernel::Choice;
use crate::setup::{self, Purpose};

/// Boot two kernels, record the same load on both, and compare
///
/// With --new-patch, it builds both kernels from one source first. Writes the recordings and the comparison
/// (text, JSON, HTML) to a folder. Exit status: 0 if the new kernel is no worse, 1 if it is worse, 2 if the
/// recordings cannot be compared.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask evaluate --base 5.10 --new 6.12
  cargo xtask evaluate --base 6.12 --new-patch my.patch
  cargo xtask evaluate --base 6.12 --new-patch my.patch --until-resolved --max-boots 12
  cargo xtask evaluate --base 6.12 --new 7.3 --also 6.18 --repeat 3
  cargo xtask evaluate --base 7.2 --new 7.3 --append cma=512M
  cargo xtask evaluate --base 6.12 --aa 10
  cargo xtask evaluate --base-kernel ../linux/base/vmlinux --new-kernel ../linux/patched/vmlinux

docs/lab.md describes kernels built from patches; docs/evaluation.md the comparison, and the configuration
that your own kernel needs.")]
pub struct EvaluateArgs {
    /// Kernel to compare with: a stock one, or one that `cargo xtask kernel build` made
    #[arg(
        long,
        value_name = "SERIES|NAME",
        required_unless_present = "base_kernel"
    )]
    pub base: Option<Choice>,
    /// Kernel to evaluate
    #[arg(long, value_name = "SERIES|NAME", required_unless_present_any = ["new_kernel", "new_patches", "aa"])]
    pub new: Option<Choice>,
    /// Build both kernels from Debian's source of the series in --base, and the new one with this patch
    /// (repeatable, in order)
    #[arg(long = "new-patch", value_name = "FILE", conflicts_with_all = ["new", "new_kernel", "base_kernel"])]
    pub new_patches: Vec<PathBuf>,
    /// Apply this patch to both kernels (repeatable, in order; before --new-patch)
    #[arg(long = "patch", value_name = "FILE", requires = "new_patches")]
    pub patches: Vec<PathBuf>,
    /// Add these symbols to the configuration of both kernels (repeatable)
    #[arg(long = "config", value_name = "FRAGMENT", requires = "new_patches")]
    pub fragments: Vec<PathBuf>,
    /// Your own kernel instead of --base: a vmlinux or a bzImage
    #[arg(long, value_name = "PATH", conflicts_with = "base")]
    pub base_kernel: Option<PathBuf>,
    /// Your own kernel instead of --new: a vmlinux or a bzImage
    #[arg(long, value_name = "PATH", conflicts_with = "new")]
    pub new_kernel: Option<PathBuf>,
    /// Modules of --base-kernel: the folder lib/modules/RELEASE that `make modules_install` makes
    #[arg(long, value_name = "PATH", requires = "base_kernel")]
    pub base_modules: Option<PathBuf>,
    /// Modules of --new-kernel
    #[arg(long, value_name = "PATH", requires = "new_kernel")]
    pub new_modules: Option<PathBuf>,
    /// A third kernel; it is compared with base too
    #[arg(long, value_name = "SERIES|NAME", conflicts_with = "aa")]
    pub also: Option<Choice>,
    /// Append arguments to the command line of every kernel; later ones win
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub append: Vec<String>,
    /// Append arguments to the command line of base only
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub base_append: Vec<String>,
    /// Append arguments to the command line of new only
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub new_append: Vec<String>,
    /// Append arguments to the command line of --also only
    #[arg(
        long,
        value_name = "ARGS",
        allow_hyphen_values = true,
        requires = "also"
    )]
    pub also_append: Vec<String>,
    /// Boots of each kernel, in the order base, new, new, base, ...; three or more compare boots instead of
    /// pins
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    repeat: u32,
    /// Boot on after --repeat until each figure that decides has a verdict
    #[arg(long)]
    until_resolved: bool,
    /// End --until-resolved after this many boots of all kernels together
    #[arg(long, value_name = "N", default_value_t = 20, requires = "until_resolved", value_parser = clap::value_parser!(u32).range(2..=999))]
    max_boots: u32,
    /// Compare base with itself this many times, each with --repeat boots on either side: how often does the
    /// comparison see a difference where there is none?
    #[arg(long, value_name = "N", conflicts_with_all = ["new", "new_kernel", "new_patches", "until_resolved"], value_parser = clap::value_parser!(u32).range(1..=99))]
    pub aa: Option<u32>,
    /// Repetitions of the load in each boot
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub load: u32,
    /// Hook the isolation of each page too. Claims C3 and C10 need it; it adds about 700 instructions to
    /// each page that moves
    #[arg(long)]
    pub isolation: bool,
    /// Accept a difference of the recordings, as `pinwatch compare --allow` does (repeatable)
    #[arg(long, value_name = "DIFF")]
    allow: Vec<String>,
    /// Folder for the results
    #[arg(long, value_name = "FOLDER", default_value = "target/evaluate")]
    pub output: PathBuf,
    #[command(flatten)]
    pub mirrors: MirrorArgs,
}

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
    let clock = boots::guest(args, &sides[0], &pinwatch).clock(&cache, &args.mirrors)?;
    let evaluation = Evaluation {
        boots: Boots {
            args,
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
    boots: Boots<'a>,
    sides: Vec<Side>,
}

impl Evaluation<'_> {
    /// Records all sides and compares each with base. The status is that of new.
    fn compared(&self) -> Result<ExitCode> {
        let args = self.boots.args;
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
                .write(&self.boots.args.output, &name)?;
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
        allowed.extend(self.boots.args.allow.iter().map(String::as_str));
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
        let boots = self.boots.args.repeat;
        let mut all = Vec::new();
        for time in 0..times {
            let runs = time * boots + 1..=(time + 1) * boots;
            self.boots.record(&halves, runs.clone())?;
            let comparison = self.between(&halves[0], &halves[1], runs);
            let name = format!("comparison-{}", time + 1);
            all.push(comparison.write(&self.boots.args.output, &name)?);
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
