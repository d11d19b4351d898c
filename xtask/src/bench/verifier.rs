//! `cargo xtask bench verifier`: records how many instructions the verifier processes, by kernel and program.
//! A live test compares with the record.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;

use super::guest::BenchGuest;
use crate::build;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::KERNELS;
use crate::setup::{self, Purpose};

/// Record how many instructions the verifier processes for each program
///
/// Writes pinwatch/tests/data/verifier.json. Run it if a live test reports an increase that you intend.
#[derive(clap::Args)]
pub struct VerifierArgs {
    #[command(flatten)]
    mirrors: MirrorArgs,
}

const JSON: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../pinwatch/tests/data/verifier.json"
);

pub fn main(args: &VerifierArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let [program, _] = build::bench_programs()?;
    let machine = BenchGuest::new(&cache, &args.mirrors, program);
    let mut recorded = BTreeMap::new();
    for kernel in KERNELS {
        let mut programs = BTreeMap::new();
        for line in machine.run_plain(kernel, &["verifier"])?.lines() {
            let value: Value = serde_json::from_str(line)?;
            let program = value["program"].as_str().context("no program")?;
            programs.insert(program.to_owned(), value["verified"].clone());
        }
        // 5.10 does not report it.
        if !programs.is_empty() {
            println!("{}: {} programs", kernel.series, programs.len());
            recorded.insert(kernel.series, programs);
        }
    }
    let json = serde_json::to_string_pretty(&recorded)? + "\n";
    fs::write(JSON, json).with_context(|| JSON.to_owned())?;
    Ok(ExitCode::SUCCESS)
}
