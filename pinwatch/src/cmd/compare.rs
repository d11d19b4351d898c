//! `pinwatch compare`: compares the recordings of two kernels.

#![forbid(unsafe_code)]

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::progress::Progress;
use super::stdout::stdout;
use crate::cli;
use crate::evaluation::capture::{self, Capture};
use crate::evaluation::comparability::{Difference, differences};
use crate::evaluation::compare::{Rules, compare};
use crate::host::new_file;
use crate::model::format::{Clock, printable};
use crate::output::compare::{Shown, html, json, mail, mmtests, text};

/// Exit status if the new kernel is worse.
const WORSE: u8 = 1;
/// Exit status if the recordings cannot be read or compared.
const REFUSED: u8 = 2;

/// Runs the command. An error gets the status [`REFUSED`], because it is not the verdict "worse".
pub fn run(args: &cli::Compare) -> ExitCode {
    super::log::to_stderr("warn");
    compared(args).unwrap_or_else(|error| {
        if super::is_reader_gone(&error) {
            return ExitCode::SUCCESS;
        }
        super::print_error(&error);
        ExitCode::from(REFUSED)
    })
}

fn compared(args: &cli::Compare) -> Result<ExitCode> {
    let mut progress = Progress::new("read");
    let mut read = |more: &PathBuf, others: &[PathBuf]| -> Result<Vec<Capture>> {
        let files = [more].into_iter().chain(others);
        files
            .map(|file| capture::read(file, &[], |pins| progress.pins(pins)))
            .collect()
    };
    let base = read(&args.base, &args.more_base)?;
    let new = read(&args.new, &args.more_new)?;
    progress.clear();
    let (allowed, refused) = all_differences(&base, &new, args);
    if !refused.is_empty() {
        eprintln!("pinwatch: the recordings cannot be compared, because they differ in:");
        for Difference { aspect, base, new } in &refused {
            let name = aspect.words();
            eprintln!(
                "  {name}:\n    base: {}\n    new:  {}",
                printable(base),
                printable(new)
            );
        }
        let names: Vec<_> = refused
            .iter()
            .map(|difference| difference.aspect.words())
            .collect();
        eprintln!(
            "record again under the same conditions, or add --allow {} to compare them all the same",
            names.join(",")
        );
        return Ok(ExitCode::from(REFUSED));
    }
    let rules = Rules {
        threshold: args.threshold / 100.0,
        run_spread: run_spread(&base, &new, args) / 100.0,
    };
    let comparison = compare(&base, &new, rules)?;
    let shown = Shown {
        base: &base,
        new: &new,
        comparison: &comparison,
        allowed: &allowed,
    };
    if let Some(path) = &args.html {
        new_file::write(path, html(&shown).as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut out = BufWriter::new(stdout());
    if args.json {
        writeln!(out, "{}", json(&shown)?)?;
    } else {
        match args.format {
            cli::Format::Text => text(&shown, args.all, &mut out)?,
            cli::Format::Mail => write!(out, "{}", mail(&shown))?,
            cli::Format::Mmtests => write!(out, "{}", mmtests(&shown))?,
        }
    }
    out.flush()?;
    Ok(if comparison.is_worse() {
        ExitCode::from(WORSE)
    } else {
        ExitCode::SUCCESS
    })
}

/// The run spread in per cent. Counted instructions repeat from boot to boot.
fn run_spread(base: &[Capture], new: &[Capture], args: &cli::Compare) -> f64 {
    /// Durations of runs of one kernel on a quiet machine.
    const USUAL: f64 = 5.0;
    let mut captures = base.iter().chain(new);
    let counted = captures.all(|capture| capture.clock() == Clock::Instructions);
    let usual = if counted { 0.0 } else { USUAL };
    args.run_spread.unwrap_or(usual)
}

/// Aspects in which any two recordings differ, each once: those that `--allow` accepts, and the
/// others. Recordings of one side must agree as well.
fn all_differences(
    base: &[Capture],
    new: &[Capture],
    args: &cli::Compare,
) -> (Vec<Difference>, Vec<Difference>) {
    let mut found: Vec<Difference> = Vec::new();
    let Some(first) = base.first() else {
        return Default::default();
    };
    for other in base.iter().chain(new) {
        for difference in differences(first, other) {
            if found.iter().all(|known| known.aspect != difference.aspect) {
                found.push(difference);
            }
        }
    }
    found
        .into_iter()
        .partition(|difference| args.allow.contains(&difference.aspect))
}
