//! `cargo xtask bench user`: what user space costs, on this host, by criterion.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use super::document::{self, thousands};
use crate::build;
use crate::cache::Cache;
use crate::child;
use crate::setup::{self, Purpose};

/// Measure decoding, folding and encoding on this host
///
/// The figures go into docs/performance.md: run it on a machine that is idle.
#[derive(clap::Args)]
pub struct UserArgs {}

/// Events in one iteration of the benchmark "fold".
const EVENTS: f64 = 4096.0;

pub fn main(_args: &UserArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let program = build::bench_user()?;
    eprintln!("xtask: measuring, about a minute");
    let results = TempDir::with_prefix("pinwatch-bench-")?;
    let said = child::output(
        child::command(program)
            .args(["--bench", "--noplot"])
            .env("CRITERION_HOME", results.path()),
    )?;
    child::check_interrupted()?;
    let estimate = |benchmark: &str| estimate(results.path(), benchmark);
    let fold = EVENTS / estimate("fold/events")? * 1e3;
    let mut table = format!(
        "One core of {}: {fold:.1} million events a second decoded and folded.\n\n\
         | Series of `/metrics` | encoding | bytes | allocations |\n|---|---|---|---|\n",
        processor()?
    );
    for line in said.lines() {
        let Some(counts) = line.strip_prefix("encode ") else {
            continue;
        };
        let counts: Vec<i64> = counts
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [series, bytes, allocations] = counts[..] else {
            bail!("not what the benchmark prints: {line}");
        };
        let us = estimate(&format!("encode/{series}"))? / 1e3;
        let (bytes, allocations) = (thousands(bytes), thousands(allocations));
        let _ = writeln!(
            table,
            "| {} | {us:.0} us | {bytes} | {allocations} |",
            thousands(series)
        );
    }
    println!("\n{table}");
    document::write("user", &table)?;
    Ok(ExitCode::SUCCESS)
}

/// The median of a benchmark, in nanoseconds.
fn estimate(results: &Path, benchmark: &str) -> Result<f64> {
    let path = results.join(benchmark).join("new/estimates.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let estimates: Value = serde_json::from_str(&text)?;
    estimates["median"]["point_estimate"]
        .as_f64()
        .with_context(|| format!("{} has no median", path.display()))
}

fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find(|line| line.starts_with("model name"));
    let name = model.and_then(|line| line.split_once(": "));
    Ok(name
        .map_or("an unnamed processor", |(_, name)| name)
        .to_owned())
}
