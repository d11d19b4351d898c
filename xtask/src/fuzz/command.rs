//! The command: builds the targets, and runs one after the other.

use std::fs;
use std::io::{BufRead as _, BufReader, IsTerminal as _, stderr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;

use super::libfuzzer::Progress;
use super::outcome::{self, Outcome};
use super::targets::{TARGETS, Target};
use crate::bench::document;
use crate::build;
use crate::child::{self, Interrupted, Waited};

/// Fuzz every parser of untrusted input, and the code behind it
///
/// Builds the targets in pinwatch/fuzz with coverage instrumentation and runs one after the other. Needs a
/// C++ compiler. Inputs that reach new code are kept in target/fuzz/corpus for the next run. An input that
/// fails is written to target/fuzz/failed, and the last lines say how to repeat it.
///
/// A target fails if it panics, also by an arithmetic overflow, takes more than 10 seconds for one input, or
/// 2 GiB of memory. The exit status is then 1.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz
  cargo xtask fuzz --target recording --target filter --seconds 600
  cargo xtask fuzz --seconds 600 --document
  cargo xtask fuzz --target recording --input target/fuzz/failed/recording-crash-0a1b2c")]
pub struct FuzzArgs {
    /// Run this target only (repeatable) [default: all]
    #[arg(long = "target", value_name = "NAME", value_parser = PossibleValuesParser::new(TARGETS.map(|target| target.name)))]
    targets: Vec<String>,
    /// Duration of each target in seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Run a target once with this input, to repeat a failure
    #[arg(
        long,
        value_name = "FILE",
        requires = "targets",
        conflicts_with = "document"
    )]
    input: Option<PathBuf>,
    /// Write the table into docs/reliability.md
    #[arg(long, conflicts_with = "targets")]
    document: bool,
}

const PINWATCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../pinwatch");
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fuzz");
/// An explicit target keeps RUSTFLAGS away from build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// The flags of cargo-fuzz without the address sanitizer: the fuzzed code has no unsafe block.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks";
/// Seconds for one input. Time that is not linear in the input's size shows here.
const SLOWEST: u32 = 10;
const MEMORY_MIB: u32 = 2048;
/// Time after the end of a run for its last input and its report.
const GRACE: Duration = Duration::from_secs(60);
/// Time between two lines of progress, on a terminal and elsewhere.
const SHOWN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];

pub fn main(args: &FuzzArgs) -> Result<ExitCode> {
    build()?;
    let asked = |target: &&Target| {
        args.targets.is_empty() || args.targets.iter().any(|name| name == target.name)
    };
    let targets: Vec<&'static Target> = TARGETS.iter().filter(asked).collect();
    if let Some(input) = &args.input {
        return repeat(&targets, input);
    }
    let mut outcomes = Vec::new();
    let mut ended = Ok(());
    for (number, target) in targets.iter().enumerate() {
        let place = format!("{}/{}", number + 1, targets.len());
        match run(target, args.seconds, &place) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
    }
    print!("{}", outcome::table(&outcomes));
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
    for outcome in &failed {
        println!("\n{}", outcome.failure());
    }
    ended?;
    if !failed.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if args.document {
        document::write_in("reliability.md", "fuzz", &outcome::document(&outcomes))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<()> {
    if child::output(child::command("c++").arg("--version")).is_err() {
        bail!("c++ is missing: run `apt-get install g++`");
    }
    let folder = format!("{FOLDER}/build");
    let mut cargo = build::cargo();
    cargo
        .args(["build", "--release", "--package", "pinwatch-fuzz", "--bins"])
        .args(["--features", "libfuzzer"])
        .args(["--target", TRIPLE, "--target-dir", &folder])
        .env("RUSTFLAGS", FLAGS);
    child::run(&mut cargo).context("the fuzz targets cannot be built")
}

fn program(target: &Target) -> String {
    format!("{FOLDER}/build/{TRIPLE}/release/{}", target.name)
}

/// Runs targets once with one input. Their output is shown as it is.
fn repeat(targets: &[&Target], input: &Path) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for target in targets {
        let mut fuzzer = child::command(program(target));
        fuzzer.arg(input).args(limits(target));
        let mut fuzzer = fuzzer.spawn().context("cannot start the fuzz target")?;
        if !matches!(child::wait(&mut fuzzer, None)?, Waited::Exited(status) if status.success()) {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn limits(target: &Target) -> [String; 3] {
    [
        format!("-max_len={}", target.longest),
        format!("-timeout={SLOWEST}"),
        format!("-rss_limit_mb={MEMORY_MIB}"),
    ]
}

fn run(target: &'static Target, seconds: u32, place: &str) -> Result<Outcome> {
    let name = target.name;
    let corpus = format!("{FOLDER}/corpus/{name}");
    let failed = format!("{FOLDER}/failed");
    for folder in [&corpus, &failed] {
        fs::create_dir_all(folder).with_context(|| folder.clone())?;
    }
    let bytes = format!("{FOLDER}/bytes-{name}");
    fs::write(&bytes, [0; 8]).with_context(|| bytes.clone())?;
    let mut fuzzer = child::command(program(target));
    fuzzer
        .args([corpus, format!("{PINWATCH}/{}", target.seeds)])
        .args(limits(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={failed}/{name}-"))
        .arg("-print_final_stats=1")
        .env("PINWATCH_FUZZ_BYTES", &bytes)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let started = Instant::now();
    let mut fuzzer = fuzzer
        .spawn()
        .with_context(|| format!("cannot start the fuzz target {name}"))?;
    let progress = Arc::new(Mutex::new(Progress::default()));
    let lines = fuzzer.stderr.take().context("no standard error")?;
    let reader = follow(lines, Arc::clone(&progress));
    let show = |before: &str, after: &str| {
        let shown = progress.lock().unwrap_or_else(PoisonError::into_inner);
        let Progress {
            executions,
            coverage,
            ..
        } = &*shown;
        let passed = started.elapsed().as_secs();
        eprint!(
            "{before}xtask: {place} {name}: {passed} of {seconds} s, {executions} executions, {coverage} edges covered{after}"
        );
    };
    let ended = watch(&mut fuzzer, seconds, show);
    if stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let passed = match ended {
        Ok(passed) => passed,
        Err(error) => {
            child::end(&mut fuzzer)?;
            if error.is::<Interrupted>() {
                return Err(error);
            }
            false
        }
    };
    // The child has ended, so its standard error has an end too.
    let _ = reader.join();
    let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    let read = fs::read(&bytes).with_context(|| bytes.clone())?;
    let read = read.first_chunk().copied().map_or(0, u64::from_le_bytes);
    fs::remove_file(&bytes).with_context(|| bytes.clone())?;
    Ok(Outcome {
        target,
        seconds: started.elapsed().as_secs(),
        bytes: read,
        progress: progress.clone(),
        passed,
    })
}

/// Waits for a fuzzer and shows its progress: on a terminal in one line, elsewhere in some.
fn watch(fuzzer: &mut Child, seconds: u32, show: impl Fn(&str, &str)) -> Result<bool> {
    let terminal = stderr().is_terminal();
    let [often, seldom] = SHOWN;
    let every = if terminal { often } else { seldom };
    let patience = Duration::from_secs(seconds.into()) + GRACE;
    let mut shown = Instant::now();
    child::wait_for("the fuzzer to end", patience, || {
        if shown.elapsed() >= every {
            shown = Instant::now();
            // On a terminal, each line replaces the last one.
            let (before, after) = if terminal {
                ("\r\x1b[K", "")
            } else {
                ("", "\n")
            };
            show(before, after);
        }
        Ok(fuzzer.try_wait()?.map(|status| status.success()))
    })
}

/// Reads the lines of a fuzzer's standard error in a thread of its own.
fn follow(lines: ChildStderr, progress: Arc<Mutex<Progress>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut lines = BufReader::new(lines);
        let mut line = Vec::new();
        // A panic's message can have any bytes.
        while lines
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line);
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.line(text.trim_end());
            line.clear();
        }
    })
}
