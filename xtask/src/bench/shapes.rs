//! `cargo xtask bench shapes`: the verifier of each stock kernel sees each BPF program in each shape that a plan can
//! choose. `pinwatch/tests/live/shapes.rs` loads them in the guest.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use serde::Deserialize;

use super::document::{thousands, write_row};
use crate::build;
use crate::cache::Cache;
use crate::child::Interrupted;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, Flavour};
use crate::guest::collected::collect_out;
use crate::guest::{Guest, Placed};
use crate::setup::{self, Purpose};

/// Let each kernel verify each BPF program in each shape that a plan can choose
///
/// A shape is a value of the programs' read-only data: the measurements and the log level that the user selects, and
/// properties of the kernel, its boot and its permissions. Programs are loaded, and attached to nothing. The row of
/// each kernel goes into docs/reliability.md. Fails if a program is refused, and prints the verifier's log.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench shapes
  cargo xtask bench shapes --kernel 6.12-rt --kernel 7.3-cloud")]
pub struct ShapesArgs {
    /// Only on this kernel (repeatable) [default: all]
    #[arg(long = "kernel", value_name = "NAME", value_parser = PossibleValuesParser::new(BUILDS.map(|(name, ..)| name)))]
    kernels: Vec<String>,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

/// Debian's builds of each series: name, series, flavour. Debian's mirrors no longer have the RT kernel of 5.10.
const BUILDS: [(&str, &str, Flavour); 17] = [
    ("5.10-cloud", "5.10", Flavour::Cloud),
    ("5.10-full", "5.10", Flavour::Full),
    ("6.1-cloud", "6.1", Flavour::Cloud),
    ("6.1-full", "6.1", Flavour::Full),
    ("6.1-rt", "6.1", Flavour::Rt),
    ("6.12-cloud", "6.12", Flavour::Cloud),
    ("6.12-full", "6.12", Flavour::Full),
    ("6.12-rt", "6.12", Flavour::Rt),
    ("6.18-cloud", "6.18", Flavour::Cloud),
    ("6.18-full", "6.18", Flavour::Full),
    ("6.18-rt", "6.18", Flavour::Rt),
    ("7.2-cloud", "7.2", Flavour::Cloud),
    ("7.2-full", "7.2", Flavour::Full),
    ("7.2-rt", "7.2", Flavour::Rt),
    ("7.3-cloud", "7.3", Flavour::Cloud),
    ("7.3-full", "7.3", Flavour::Full),
    ("7.3-rt", "7.3", Flavour::Rt),
];

const TIMEOUT: Duration = Duration::from_secs(3600);
const PROGRAM: &str = "/usr/bin/pinwatch-bench";

/// What a guest reports.
#[derive(Deserialize)]
struct Outcome {
    shapes: i64,
    combinations: i64,
    loads: i64,
    programs: BTreeSet<String>,
    most_instructions: i64,
    refused: BTreeMap<String, String>,
}

pub fn main(args: &ShapesArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let [program, _] = build::bench_programs()?;
    let files = [Placed {
        host: program,
        guest: PROGRAM.to_owned(),
    }];
    let asked =
        |name: &str| args.kernels.is_empty() || args.kernels.iter().any(|asked| asked == name);
    let mut failed = false;
    for (name, series, flavour) in BUILDS.into_iter().filter(|(name, ..)| asked(name)) {
        match verify(series, flavour, &files, &cache, &args.mirrors) {
            Ok((release, outcome)) => {
                for (program, refusal) in &outcome.refused {
                    failed = true;
                    println!("failed: {name} refuses {program}: {refusal}");
                }
                let row = outcome.row(name, &release);
                println!("{row}");
                write_row("reliability.md", "shapes", &key(name), &row)?;
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                failed = true;
                println!("failed: {name}: {error:#}");
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Returns the kernel's release too.
fn verify(
    series: &str,
    flavour: Flavour,
    files: &[Placed],
    cache: &Cache,
    mirrors: &MirrorArgs,
) -> Result<(String, Outcome)> {
    let kernel = kernels::parse(series)?;
    let release = kernel.fetch(flavour, cache, mirrors)?.release;
    let guest = Guest {
        flavour,
        files: files.to_vec(),
        timeout: Some(TIMEOUT),
        ..Guest::new(kernel, vec![PROGRAM.to_owned(), "shapes".to_owned()])
    };
    let output = collect_out(|sinks| guest.run(cache, mirrors, sinks))?;
    let outcome = serde_json::from_str(&output)
        .with_context(|| format!("the guest printed something else than its result: {output}"))?;
    Ok((release, outcome))
}

fn key(name: &str) -> String {
    format!("| {name}:")
}

impl Outcome {
    fn row(&self, name: &str, release: &str) -> String {
        let counts = [
            self.shapes,
            self.programs.len() as i64,
            self.combinations,
            self.loads,
            self.refused.len() as i64,
        ];
        let counts: String = counts
            .map(|count| format!(" {} |", thousands(count)))
            .concat();
        let most = match self.most_instructions {
            0 => "not counted".to_owned(),
            most => thousands(most),
        };
        format!("{} {release} |{counts} {most} |", key(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::kernels::KERNELS;

    #[test]
    fn every_series_is_there_in_both_flavours() {
        for kernel in KERNELS {
            for flavour in [Flavour::Cloud, Flavour::Full] {
                let build = (kernel.series, flavour);
                let has =
                    |(_, series, flavour): &(&str, &str, Flavour)| (*series, *flavour) == build;
                assert_eq!(
                    BUILDS.iter().filter(|build| has(build)).count(),
                    1,
                    "{build:?}"
                );
            }
        }
    }

    #[test]
    fn a_row_names_the_kernel() {
        let outcome = Outcome {
            shapes: 1000,
            combinations: 2,
            loads: 3,
            programs: BTreeSet::from(["a".to_owned()]),
            most_instructions: 0,
            refused: BTreeMap::new(),
        };
        let row = outcome.row("5.10-full", "5.10.0-46-amd64");
        assert_eq!(
            row,
            "| 5.10-full: 5.10.0-46-amd64 | 1,000 | 1 | 2 | 3 | 0 | not counted |"
        );
        assert!(row.starts_with(&key("5.10-full")));
    }
}
