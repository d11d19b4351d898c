//! `cargo xtask bench user`: times (criterion) and instructions (callgrind) of user space on this host.

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
/// Writes the figures to docs/performance.md. Run it on an idle machine.
#[derive(clap::Args)]
pub struct UserArgs {}

/// Events in one iteration of the benchmarks of the group "fold".
const EVENTS: f64 = 4096.0;
/// Its benchmarks, and their descriptions.
const FOLDS: [(&str, &str); 2] = [
    (
        "fold/events",
        "events of the ring buffer, decoded and folded",
    ),
    ("fold/recording", "a recording, read, decoded and folded"),
];

pub fn main(_args: &UserArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::Counts)?;
    let program = build::bench_user()?;
    eprintln!("xtask: measuring (two minutes)");
    let results = TempDir::with_prefix("pinwatch-bench-")?;
    let said = child::output(
        child::command(&program)
            .args(["--bench", "--noplot"])
            .env("CRITERION_HOME", results.path()),
    )?;
    child::check_interrupted()?;
    let estimate = |benchmark: &str| estimate(results.path(), benchmark);
    let mut table = format!(
        "One core of {}; instructions by {}.\n\n\
         | | million pins a second | instructions for a pin |\n|---|---|---|\n",
        processor()?,
        child::output(child::command("valgrind").arg("--version"))?.trim()
    );
    for (benchmark, what) in FOLDS {
        let rate = EVENTS / estimate(benchmark)? * 1e3;
        let each = instructions(&program, benchmark)? as f64 / EVENTS;
        let _ = writeln!(table, "| {what} | {rate:.1} | {each:.0} |");
    }
    table += "\n| Series of `/metrics` | encoding | instructions | bytes | allocations |\n|---|---|---|---|---|\n";
    for line in said.lines() {
        let Some(counts) = line.strip_prefix("encode ") else {
            continue;
        };
        let counts: Vec<i64> = counts
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [processes, series, bytes, allocations] = counts[..] else {
            bail!("the benchmark printed an unexpected line: {line}");
        };
        let benchmark = format!("encode/{processes}");
        let ms = estimate(&benchmark)? / 1e6;
        let counts = [instructions(&program, &benchmark)?, bytes, allocations];
        let [instructions, bytes, allocations] = counts.map(thousands);
        let _ = writeln!(
            table,
            "| {} | {ms:.2} ms | {instructions} | {bytes} | {allocations} |",
            thousands(series)
        );
    }
    println!("\n{table}");
    document::write("user", &table)?;
    Ok(ExitCode::SUCCESS)
}

/// Instructions of one iteration: half the difference between three iterations and one.
fn instructions(program: &Path, benchmark: &str) -> Result<i64> {
    let count = |times: &str| -> Result<i64> {
        let mut valgrind = child::command("valgrind");
        valgrind
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg("--log-fd=1")
            .arg(program)
            .args(["--count", benchmark, times]);
        collected(&child::output(&mut valgrind)?)
    };
    Ok((count("3")? - count("1")?) / 2)
}

/// The number of instructions in callgrind's last message.
fn collected(said: &str) -> Result<i64> {
    let count = said
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .context("callgrind printed no count")?;
    Ok(count.1.trim().parse()?)
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

/// Name of this machine's processor.
pub fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find(|line| line.starts_with("model name"));
    let name = model.and_then(|line| line.split_once(": "));
    Ok(name
        .map_or("an unnamed processor", |(_, name)| name)
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callgrind_says() {
        let said = "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n";
        assert_eq!(collected(said).unwrap(), 1_234_567);
        assert!(collected("==7== \n").is_err());
    }
}
