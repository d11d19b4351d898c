//! `cargo xtask bench reliability`: counts lost pins and wrong durations beside other programs that use BPF or
//! probes.
//!
//! `pinwatch/benches/guest/reliability.rs` measures in the guest.

mod measured;
mod variants;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use self::measured::Measured;
use self::variants::{NEIGHBOURS, VARIANTS, Variant};
use super::other_tools::{NEIGHBOURS as TOOLS, OtherTools};
use crate::build;
use crate::cache::Cache;
use crate::child::Interrupted;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels;
use crate::guest::collected::collect_out;
use crate::guest::qemu::{self, Accel, Tcg};
use crate::guest::{Guest, Placed};
use crate::setup::{self, Purpose};

/// Check that pins are measured, or counted as lost, beside other programs that use BPF
///
/// Boots one guest per kernel. In it, `pinwatch load threads` makes 1,440 pins a round while
/// pinwatch and a neighbour run. The load's own log is compared with the metrics and, pin by pin,
/// with a follower's events.
///
/// Fails, and names the rows, if pins are neither measured nor counted as lost, if more than one in
/// 1,000 is lost, or if an event does not lie inside its own system call. With the default number of
/// rounds the rows go into docs/reliability.md and docs/reliability.json. Rows of other kernels and
/// neighbours stay, unless they are of an older point release.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench reliability
  cargo xtask bench reliability --kernel 7.3 --neighbour updates --rounds 1
  cargo xtask bench reliability --kernel 6.1-preempt --kernel 6.12-rt")]
pub struct ReliabilityArgs {
    /// Measure on this kernel only (repeatable) [default: all]
    #[arg(long = "kernel", value_name = "NAME", value_parser = PossibleValuesParser::new(VARIANTS.map(|variant| variant.name)))]
    kernels: Vec<String>,
    /// Measure beside this neighbour only (repeatable) [default: all]
    #[arg(long = "neighbour", value_name = "NAME", value_parser = PossibleValuesParser::new(NEIGHBOURS.map(|(name, _)| name)))]
    neighbours: Vec<String>,
    /// Rounds with a follower; one more round has none
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

const ROUNDS: u32 = 3;
const TIMEOUT: Duration = Duration::from_secs(3600);
const PROGRAM: &str = "/usr/bin/pinwatch-bench";

pub fn main(args: &ReliabilityArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let [program, pinwatch] = build::bench_programs()?;
    let other_tools = OtherTools::fetch(&TOOLS, &cache, &args.mirrors)?;
    let bench = Bench {
        cache: &cache,
        mirrors: &args.mirrors,
        files: files(program, pinwatch, &other_tools),
        neighbours: asked(&NEIGHBOURS, &args.neighbours, |(name, _)| name),
        rounds: args.rounds,
    };
    let mut failures = Vec::new();
    for variant in asked(&VARIANTS, &args.kernels, |variant| variant.name) {
        match bench.run(variant) {
            Ok(measured) => {
                println!("\n{}", measured.table(variant));
                failures.extend(measured.failures(variant, &bench.neighbours));
                if args.rounds == ROUNDS {
                    measured.keep(variant, &other_tools.versions)?;
                }
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => failures.push(format!("{}: {error:#}", variant.name)),
        }
    }
    for failure in &failures {
        println!("failed: {failure}");
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The rows with these names, or all rows without names.
fn asked<'a, T>(all: &'a [T], names: &[String], name: impl Fn(&T) -> &str) -> Vec<&'a T> {
    let wanted = |row: &&T| names.is_empty() || names.iter().any(|asked| asked == name(row));
    all.iter().filter(wanted).collect()
}

fn files(program: PathBuf, pinwatch: PathBuf, other_tools: &OtherTools) -> Vec<Placed> {
    let mut files = other_tools.placed();
    for (host, guest) in [(program, PROGRAM), (pinwatch, "/usr/bin/pinwatch")] {
        let guest = guest.to_owned();
        files.push(Placed { host, guest });
    }
    files
}

struct Bench<'a> {
    cache: &'a Cache,
    mirrors: &'a MirrorArgs,
    files: Vec<Placed>,
    neighbours: Vec<&'a (&'static str, &'static str)>,
    rounds: u32,
}

impl Bench<'_> {
    fn run(&self, variant: &Variant) -> Result<Measured> {
        let kernel = kernels::parse(variant.series)?;
        let release = kernel.fetch(variant.flavour, self.cache, self.mirrors)?;
        let rounds = self.rounds.to_string();
        let mut command = vec![PROGRAM, "reliability", "--rounds", &rounds];
        for (name, _) in &self.neighbours {
            command.extend(["--neighbour", name]);
        }
        let guest = Guest {
            kernel,
            own: None,
            flavour: variant.flavour,
            files: self.files.clone(),
            modules: Vec::new(),
            append: vec![variant.append.to_owned()],
            memory_mib: 2048,
            cpus: 2,
            forwards: Vec::new(),
            qemu_args: Vec::new(),
            timeout: Some(TIMEOUT),
            command: command.into_iter().map(str::to_owned).collect(),
        };
        let emulated = Accel::Tcg(Tcg::of_version(qemu::version()?));
        eprintln!(
            "xtask: {}: measuring (some minutes per neighbour)",
            variant.name
        );
        let started = Instant::now();
        let run = |sinks| guest.run_by(emulated, self.cache, self.mirrors, sinks);
        let output = collect_out(run)?;
        let seconds = started.elapsed().as_secs();
        eprintln!("xtask: {} took {seconds} s", variant.name);
        Measured::read(release.release, &output)
    }
}
