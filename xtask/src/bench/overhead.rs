//! `cargo xtask bench overhead`: what is added to one pin by empty programs, by pinwatch and by
//! the tools that people use instead, in instructions.
//!
//! The guest has one emulated processor whose clock counts instructions, so the figures are the
//! same on every machine and repeat from boot to boot. What a guest measures is in
//! `pinwatch/benches/guest`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::document;
use super::figures::Figures;
use super::peers::Peers;
use crate::apt::MirrorArgs;
use crate::build;
use crate::cache::Cache;
use crate::collected::Collected;
use crate::guest::{Guest, Placed};
use crate::kernels::{self, Flavour, KERNELS, Kernel};
use crate::qemu::{self, Sinks};
use crate::setup::{self, Purpose};

/// Measure what is added to one pin: instructions, in guests that count them
///
/// With all kernels, sets and runs the figures go into docs/performance.md and
/// docs/performance.json; else they are only printed.
#[derive(clap::Args)]
pub struct OverheadArgs {
    /// On this kernel only (repeatable) [default: 6.1, 6.12 and 7.3]
    #[arg(long = "kernel", value_name = "SERIES", value_parser = kernels::parse)]
    kernels: Vec<&'static Kernel>,
    /// This set of hooks only (repeatable), as the table names it
    #[arg(long = "set", value_name = "NAME")]
    sets: Vec<String>,
    /// Boots of each kernel
    #[arg(long, value_name = "N", default_value_t = RUNS, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

const RUNS: u32 = 3;
const MEASURED: [&str; 3] = ["6.1", "6.12", "7.3"];
const TIMEOUT: Duration = Duration::from_secs(1200);
const GUEST: &str = "/usr/bin/pinwatch-bench";
const JSON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.json");

pub fn main(args: &OverheadArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let program = build::bench_guest()?;
    let peers = Peers::fetch(&cache, &args.mirrors)?;
    let bench = Bench {
        cache,
        mirrors: args.mirrors.clone(),
        sets: args.sets.clone(),
        files: files(program, Some(&peers)),
    };
    let measured = KERNELS.iter().filter(|k| MEASURED.contains(&k.series));
    let wanted: Vec<_> = match args.kernels.as_slice() {
        [] => measured.collect(),
        some => some.to_vec(),
    };
    let (mut text, mut json) = (String::new(), Map::new());
    for kernel in wanted {
        let (figures, release) = bench.measure(kernel, args.runs)?;
        let table = figures.table();
        println!("\n{release}\n\n{table}");
        let _ = write!(text, "### {release}\n\n{table}\n");
        json.insert(kernel.series.to_owned(), figures.json());
    }
    if args.kernels.is_empty() && args.sets.is_empty() && args.runs == RUNS {
        let _ = write!(
            text,
            "{RUNS} boots each; {}; {}.",
            qemu::release()?,
            peers.versions
        );
        document::write("overhead", &text)?;
        let json = serde_json::to_string_pretty(&Value::Object(json))? + "\n";
        fs::write(JSON, json).with_context(|| JSON.to_owned())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a guest needs in its file system.
pub fn files(program: PathBuf, peers: Option<&Peers>) -> Vec<Placed> {
    let mut files = peers.map(Peers::placed).unwrap_or_default();
    files.push(Placed {
        host: program,
        guest: GUEST.to_owned(),
    });
    files
}

/// What is measured, and with what.
pub struct Bench {
    pub cache: Cache,
    pub mirrors: MirrorArgs,
    /// all if there is none
    pub sets: Vec<String>,
    pub files: Vec<Placed>,
}

impl Bench {
    /// The figures of a kernel over some boots, and its release.
    pub fn measure(&self, kernel: &'static Kernel, runs: u32) -> Result<(Figures, String)> {
        let release = kernel
            .fetch(Flavour::Cloud, &self.cache, &self.mirrors)?
            .release;
        let mut figures = Figures::default();
        for run in 1..=runs {
            let started = Instant::now();
            eprintln!("xtask: {release}: run {run} of {runs}");
            figures.read(&self.boot(kernel)?)?;
            let seconds = started.elapsed().as_secs();
            eprintln!("xtask: {release}: run {run} took {seconds} s");
        }
        Ok((figures, release))
    }

    fn boot(&self, kernel: &'static Kernel) -> Result<String> {
        let mut command = vec![GUEST.to_owned(), "overhead".to_owned()];
        for set in &self.sets {
            command.extend(["--set".to_owned(), set.clone()]);
        }
        let guest = Guest {
            kernel,
            flavour: Flavour::Cloud,
            files: self.files.clone(),
            modules: Vec::new(),
            // The same addresses each time.
            append: vec!["norandmaps".to_owned()],
            memory_mib: 2048,
            cpus: 1,
            forwards: Vec::new(),
            qemu_args: Vec::new(),
            timeout: Some(TIMEOUT),
            command,
        };
        let (out, err) = (Collected::default(), Collected::default());
        let sinks = Sinks {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
        };
        match guest.run_counting(&self.cache, &self.mirrors, sinks)? {
            0 => out.text(),
            status => bail!(
                "the measurement failed with status {status}: {}",
                err.text()?.trim()
            ),
        }
    }
}
