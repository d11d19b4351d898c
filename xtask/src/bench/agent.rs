//! `cargo xtask bench agent`: memory, processor time and wake-ups of the daemon.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum as _;
use serde_json::Value;

use super::document::{self, thousands};
use super::guest::BenchGuest;
use super::overhead::kernels_or_default;
use crate::build;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, Kernel};
use crate::setup::{self, Purpose};

/// Measure the daemon: memory, wake-ups, processor time, and the reader of the ring buffer
///
/// A run of all parts on all kernels writes the figures to docs/performance.md.
#[derive(clap::Args)]
pub struct AgentArgs {
    /// Measure this part only (repeatable)
    #[arg(long = "part", value_enum)]
    parts: Vec<Part>,
    /// Measure on this kernel only (repeatable) [default: 6.1, 6.12 and 7.3]
    #[arg(long = "kernel", value_name = "SERIES", value_parser = kernels::parse)]
    kernels: Vec<&'static Kernel>,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

/// A part of the figures, as `pinwatch/benches/guest` knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// From the start of a command to its first output
    Start,
    /// A daemon without pins, with pins, with scrapes and with a follower
    Daemon,
    /// Scrapes with many series
    Series,
    /// The ring buffer and its reader
    Ring,
}

pub fn main(args: &AgentArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let [program, pinwatch] = build::bench_programs()?;
    let machine = BenchGuest {
        pinwatch: Some(pinwatch),
        ..BenchGuest::new(&cache, &args.mirrors, program)
    };
    let kernels = kernels_or_default(&args.kernels);
    let parts = match &args.parts[..] {
        [] => Part::value_variants(),
        parts => parts,
    };
    let parts: Vec<_> = parts.iter().filter_map(Part::to_possible_value).collect();
    let mut command = vec!["agent"];
    for part in &parts {
        command.extend(["--part", part.get_name()]);
    }
    let columns = machine.on_each(&kernels, |kernel| read(&machine.run(kernel, &command)?))?;
    let mut table = String::from("| |");
    for kernel in &kernels {
        let _ = write!(table, " {} |", kernel.series);
    }
    let _ = writeln!(table, "\n|---|{}", "---|".repeat(kernels.len()));
    for (what, _) in columns.iter().take(1).flatten() {
        let _ = write!(table, "| {what} |");
        for column in &columns {
            let cell = column.iter().find(|(name, _)| name == what);
            let _ = write!(table, " {} |", cell.map_or("-", |(_, cell)| cell));
        }
        table.push('\n');
    }
    println!("\n{table}");
    if args.kernels.is_empty() && args.parts.is_empty() {
        document::write("agent", &table)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Names and readable figures, in the order in which they were measured.
fn read(output: &str) -> Result<Vec<(String, String)>> {
    let lines = output.lines().map(|line| {
        let value: BTreeMap<String, Value> = serde_json::from_str(line)
            .with_context(|| format!("the guest printed a line that is not a figure: {line}"))?;
        let what = value["what"].as_str().context("a figure has no name")?;
        let figure = value["value"].as_i64().context("a figure has no value")?;
        let unit = value["unit"].as_str().unwrap_or_default();
        Ok((what.to_owned(), readable(figure, unit)))
    });
    lines.collect()
}

fn readable(figure: i64, unit: &str) -> String {
    match unit {
        "ns" if figure >= 1_000_000 => format!("{:.1} ms", figure as f64 / 1e6),
        "KiB" => format!("{:.1} MiB", figure as f64 / 1024.0),
        _ => format!("{} {unit}", thousands(figure)).trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        let output = "{\"what\":\"memory\",\"value\":9216,\"unit\":\"KiB\"}\n\
                      {\"what\":\"wake-ups\",\"value\":1200,\"unit\":\"\"}\n";
        let read = read(output).unwrap();
        assert_eq!(read[0], ("memory".to_owned(), "9.0 MiB".to_owned()));
        assert_eq!(read[1].1, "1,200");
        assert_eq!(readable(2_500_000, "ns"), "2.5 ms");
    }
}
