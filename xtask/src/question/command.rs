//! `cargo xtask question`: records, judges and writes the document.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::algorithms::ALGORITHMS;
use super::document;
use super::measured::{self, MACHINES, Machine, Measured};
use crate::build;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::evaluate::{Boots, LIMIT, Load, guest};
use crate::setup::{self, Purpose};

/// Judge the ten claims of December 2020 on four algorithms, and write docs/question-2020.md
///
/// Builds two kernels from Debian's source of 5.10, without and with version 4 of the patch, unless they are
/// there. Boots each of them, and Debian's 6.1 and 7.3, with one processor and with two, records the load of an
/// evaluation with the hooks on isolation, and writes docs/question-2020.json and docs/question-2020.md.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask question
  cargo xtask question --load 10
  cargo xtask question --keep          (judges the recordings of the last run again)")]
pub struct QuestionArgs {
    /// Repetitions of the load in each boot
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    load: u32,
    /// Take the recordings that are in the folder already
    #[arg(long)]
    keep: bool,
    /// Folder for the recordings
    #[arg(long, value_name = "FOLDER", default_value = "target/question")]
    output: PathBuf,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

pub fn main(args: &QuestionArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let pinwatch = build::pinwatch()?;
    if !args.keep {
        record(args, &cache, &pinwatch)?;
    }
    let reports = ALGORITHMS.iter().map(|algorithm| {
        let key = algorithm.key;
        let file = |machine: &Machine| args.output.join(machine.name).join(format!("{key}-1.pw"));
        measured::read(&pinwatch, key, MACHINES.each_ref().map(file))
    });
    let measured = Measured {
        algorithms: reports.collect::<Result<_>>()?,
    };
    measured.write()?;
    let (path, text) = document::generated()?;
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    eprintln!(
        "xtask: docs/question-2020.md has the verdicts; the recordings are in {}",
        args.output.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Boots each kernel on each machine.
fn record(args: &QuestionArgs, cache: &Cache, pinwatch: &Path) -> Result<()> {
    let sides = ALGORITHMS
        .iter()
        .map(|algorithm| algorithm.side(cache, &args.mirrors))
        .collect::<Result<Vec<_>>>()?;
    for machine in &MACHINES {
        let output = args.output.join(machine.name);
        fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
        let load = Load {
            repeat: args.load,
            isolation: true,
            cpus: machine.cpus,
        };
        let guest = guest(load, LIMIT, &sides[0], pinwatch);
        let boots = Boots {
            load,
            output: &output,
            mirrors: &args.mirrors,
            cache,
            pinwatch: pinwatch.to_owned(),
            clock: guest.clocked(machine.clock, cache, &args.mirrors)?,
        };
        boots.record(&sides, 1..=1)?;
    }
    Ok(())
}
