//! `cargo xtask fuzz`: fuzzes the reader of recordings with libFuzzer.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::child::{self, Waited};

/// Fuzz the reader of recordings
///
/// Starts with the recordings in pinwatch/tests/data. Needs a C++ compiler. An input that fails is written to
/// target/fuzz.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz
  cargo xtask fuzz --seconds 3600")]
pub struct FuzzArgs {
    /// Duration in seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../pinwatch/fuzz/Cargo.toml");
const SEEDS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../pinwatch/tests/data/recordings"
);
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fuzz/corpus");
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fuzz/build");
/// The flags of cargo-fuzz without the address sanitizer: the fuzzed code has no unsafe block.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks";
/// A little more than the largest seed.
const LONGEST: &str = "-max_len=65536";
/// Twice the limit of a reader; the fuzzer needs the other half.
const MEMORY: &str = "-rss_limit_mb=512";

pub fn main(args: &FuzzArgs) -> Result<ExitCode> {
    if child::output(child::command("c++").arg("--version")).is_err() {
        bail!("c++ is missing: run `apt-get install g++`");
    }
    fs::create_dir_all(CORPUS).with_context(|| CORPUS.to_owned())?;
    let mut run = build::cargo();
    run.args([
        "run",
        "--release",
        "--manifest-path",
        MANIFEST,
        "--bin",
        "recording",
    ])
    // An explicit target keeps RUSTFLAGS away from build scripts.
    .args([
        "--target",
        "x86_64-unknown-linux-gnu",
        "--target-dir",
        TARGET,
        "--",
    ])
    .args([CORPUS, SEEDS, LONGEST, MEMORY])
    .arg(format!("-max_total_time={}", args.seconds))
    .arg(format!(
        "-artifact_prefix={}/",
        Path::new(CORPUS).with_file_name("").display()
    ))
    .env("RUSTFLAGS", FLAGS);
    let mut run = run.spawn().context("cannot start cargo")?;
    let Waited::Exited(status) = child::wait(&mut run, None)? else {
        bail!("the fuzzer did not end");
    };
    if !status.success() {
        bail!("the reader failed: the input is in target/fuzz");
    }
    Ok(ExitCode::SUCCESS)
}
