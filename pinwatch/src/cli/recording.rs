//! Commands that make and read recordings: record, replay, report, compare.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::watch::{Follow, Tail, speed};
use crate::evaluation::comparability::Aspect;
use crate::evaluation::what_if::Rule;
use crate::model::filter::Filter;
use crate::probe::plan::Selection;

/// Every pin to a file, which `pinwatch tail --replay` and `top --replay` show again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch record -o pins.pw --duration 60s
  pinwatch record -o pins.pw -- pinwatch load threads
  pinwatch record -o slow.pw --connect --min-latency 10ms

Ctrl-C ends it. However it ends, what was written can be read. Exit status: that of the command, if one
is given; else 0. docs/recording.md describes the file.")]
pub struct Record {
    /// The file
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// End after this long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,

    /// Compress the pins (zstd)
    #[arg(long)]
    pub compress: bool,

    #[command(flatten)]
    pub follow: Follow,

    /// Run this once all is attached, and end when it ends
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// A recording through the same aggregation as live.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch replay pins.pw --as metrics
  pinwatch replay pins.pw --as tail --failed
  pinwatch replay pins.pw --as report

The metrics are those of the daemon at the end of the recording, without the process's own. `pinwatch top --replay`
shows a recording on the full screen.")]
pub struct Replay {
    /// The recording
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// What to make of it
    #[arg(long, value_name = "OUTPUT")]
    pub r#as: As,

    /// JSON, as tail and report have it
    #[arg(long)]
    pub json: bool,

    /// Seconds of the recording that pass in one; for tail [default: no waiting]
    #[arg(long, value_name = "X", value_parser = speed)]
    pub speed: Option<f64>,

    #[command(flatten)]
    pub filter: Filter,
}

impl Replay {
    /// The same as a command of `tail`.
    #[must_use]
    pub fn into_tail(self) -> Tail {
        Tail {
            in_flight_after: Duration::from_secs(1),
            json: self.json,
            duration: None,
            follow: Follow {
                connect: None,
                replay: Some(self.file),
                speed: self.speed,
                selection: Selection::default(),
                filter: self.filter,
            },
        }
    }
}

/// What a recording can be replayed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum As {
    Metrics,
    Tail,
    Report,
}

/// The evaluation of a recording: the claims about the path, costs, failures, slowest pins.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch report pins.pw
  pinwatch report pins.pw --what-if migrate-max=10,isolate-max=100 --what-if forward-progress
  pinwatch report pins.pw --json | jq '.claims[] | [.id, .verdict]'

docs/evaluation.md says how each claim is judged.")]
pub struct Report {
    /// The recording
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// One JSON object
    #[arg(long)]
    pub json: bool,

    /// What other rules would have made of the pins: migrate-max=N, isolate-max=N (or both, with a
    /// comma), immediate, forward-progress (repeatable)
    #[arg(long, value_name = "RULE")]
    pub what_if: Vec<Rule>,
}

/// Two kernels side by side: is the new one worse?
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch compare base.pw new.pw
  pinwatch compare base.pw new.pw --allow hooks --html comparison.html
  pinwatch compare base1.pw new1.pw --more-base base2.pw,base3.pw --more-new new2.pw,new3.pw

Exit status: 0 new is no worse, 1 it is worse, 2 the recordings are not alike, or cannot be read.
docs/evaluation.md says how it is decided.")]
pub struct Compare {
    /// A recording of the kernel that is known
    #[arg(value_name = "BASE")]
    pub base: PathBuf,

    /// A recording of the kernel in question
    #[arg(value_name = "NEW")]
    pub new: PathBuf,

    /// More runs of the first; with three or more of both sides, runs are compared instead of pins
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    pub more_base: Vec<PathBuf>,

    /// More runs of the second
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    pub more_new: Vec<PathBuf>,

    /// Compare although the recordings differ in this (repeatable)
    #[arg(long, value_name = "DIFF", value_delimiter = ',')]
    pub allow: Vec<Aspect>,

    /// Per cent from which on a ratio matters; of shares, a fifth of it
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    pub threshold: f64,

    /// Standard deviation, in per cent, of durations between runs of one kernel; with three runs or
    /// more of both sides they tell it themselves. 0 where a clock counts instructions
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    pub run_spread: f64,

    /// List the figures without a difference too
    #[arg(long)]
    pub all: bool,

    /// One JSON object
    #[arg(long)]
    pub json: bool,

    /// Also write a page for people
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent),
        _ => Err("a number from 0 to 1000 is needed".to_owned()),
    }
}
