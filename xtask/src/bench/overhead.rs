//! `cargo xtask bench overhead`: instructions that empty programs, pinwatch and other tools add to one pin.
//!
//! `pinwatch/benches/guest` measures in the guest.

use std::fmt::Write;
use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::document;
use super::figures::Figures;
use super::guest::BenchGuest;
use super::here::here;
use super::other_tools::{self, OtherTools};
use super::targets;
use crate::build;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, KERNELS, Kernel};
use crate::guest::qemu;
use crate::setup::{self, Purpose};

/// Count the instructions that pinwatch and other tools add to one pin
///
/// A run with all kernels, sets and boots writes docs/performance.md and docs/performance.json.
#[derive(clap::Args)]
pub struct OverheadArgs {
    /// Measure on this kernel only (repeatable) [default: 6.1, 6.12 and 7.3]
    #[arg(long = "kernel", value_name = "SERIES", value_parser = kernels::parse)]
    kernels: Vec<&'static Kernel>,
    /// Measure this set of hooks only (repeatable), by its name in the table
    #[arg(long = "set", value_name = "NAME")]
    sets: Vec<String>,
    /// Measure on this machine's kernel instead, in nanoseconds, with the other tools that are installed. Needs root, a
    /// Rust toolchain and a C compiler, and no virtual machine. Refuses a noisy machine
    #[arg(long, conflicts_with = "kernels")]
    here: bool,
    /// Measure also if the machine is noisy; the table says so
    #[arg(long, requires = "here")]
    even_if_noisy: bool,
    /// Boots of each kernel; with --here, runs
    #[arg(long, value_name = "N", default_value_t = RUNS, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

const RUNS: u32 = 3;
const MEASURED: [&str; 3] = ["6.1", "6.12", "7.3"];
/// Also read by `bench/regression`.
pub const JSON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.json");

pub fn main(args: &OverheadArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    if args.here {
        setup::ensure(&cache, Purpose::Build)?;
        here(&args.sets, args.runs, args.even_if_noisy)?;
        return Ok(ExitCode::SUCCESS);
    }
    setup::ensure(&cache, Purpose::All)?;
    let [program, pinwatch] = build::bench_programs()?;
    let machine = BenchGuest {
        pinwatch: Some(pinwatch),
        other_tools: Some(OtherTools::fetch(
            &other_tools::COMPARED,
            &cache,
            &args.mirrors,
        )?),
        ..BenchGuest::new(&cache, &args.mirrors, program)
    };
    let (mut text, mut json) = (String::new(), Map::new());
    let kernels = kernels_or_default(&args.kernels);
    let measured = machine.on_each(&kernels, |kernel| {
        measure(&machine, kernel, &args.sets, args.runs)
    })?;
    for (kernel, figures) in kernels.iter().zip(&measured) {
        let (release, table) = (machine.release(kernel)?, figures.table());
        println!("\n{release}\n\n{table}");
        let _ = write!(text, "### {release}\n\n{table}\n");
        json.insert(kernel.series.to_owned(), figures.json());
    }
    if args.kernels.is_empty() && args.sets.is_empty() && args.runs == RUNS {
        let versions = machine.other_tools.map(|other_tools| other_tools.versions);
        let _ = write!(
            text,
            "{RUNS} boots of each kernel; {}; {}.",
            qemu::release()?,
            versions.unwrap_or_default()
        );
        document::write("overhead", &text)?;
        let kernels = kernels.iter().map(|kernel| kernel.series);
        let columns: Vec<_> = kernels.zip(&measured).collect();
        document::write("aims", &targets::table(&columns))?;
        let json = serde_json::to_string_pretty(&Value::Object(json))? + "\n";
        fs::write(JSON, json).with_context(|| JSON.to_owned())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The kernels that the user named, or one for each form of the pin path.
pub fn kernels_or_default(asked: &[&'static Kernel]) -> Vec<&'static Kernel> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    let measured = KERNELS.iter().filter(|k| MEASURED.contains(&k.series));
    measured.collect()
}

/// The figures of a kernel over some boots, for all sets if none is named.
pub fn measure(
    machine: &BenchGuest<'_>,
    kernel: &'static Kernel,
    sets: &[String],
    runs: u32,
) -> Result<Figures> {
    let release = machine.release(kernel)?;
    let mut command = vec!["overhead"];
    for set in sets {
        command.extend(["--set", set]);
    }
    let mut figures = Figures::default();
    for run in 1..=runs {
        let started = Instant::now();
        eprintln!("xtask: {release}: run {run} of {runs}, about a minute");
        figures.read(&machine.run(kernel, &command)?)?;
        let seconds = started.elapsed().as_secs();
        eprintln!("xtask: {release}: run {run} took {seconds} s");
    }
    Ok(figures)
}
