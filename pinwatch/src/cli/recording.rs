//! Flags of the commands that make and read recordings: record, replay, report, compare.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::watch::{Follow, Tail, speed};
use crate::evaluation::comparability::Aspect;
use crate::evaluation::what_if::Rules;
use crate::model::filter::Filter;
use crate::probe::plan::Selection;

/// Record pins to a file for `pinwatch report`, `compare`, `replay`, and --replay of `tail` and `top`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch record -o pins.pw --duration 60s
  pinwatch record -o pins.pw -- pinwatch load threads
  pinwatch record -o slow.pw --connect --min-latency 10ms

Ctrl-C ends the recording; a second one ends it at once, without the last pins. Everything written until
then can be read, even if pinwatch is killed. A write error ends the recording, not CMD.
`pinwatch report FILE` evaluates a recording.
`pinwatch compare BASE NEW` compares the recordings of two kernels.
Exit status: that of CMD if one is given, else 0; 1 if the recording failed. docs/recording.md describes the file.")]
pub struct Record {
    /// File to write. The content of an existing file is replaced once all hooks are attached and CMD runs
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// End after this time, such as 60s or 5m [default: run until Ctrl-C or the end of CMD]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,

    /// Compress the pins with zstd, to about a quarter of the size
    #[arg(long)]
    pub compress: bool,

    #[command(flatten)]
    pub follow: Follow,

    /// Command to run once all hooks are attached. The recording ends with it
    #[arg(last = true, value_name = "CMD", help_heading = "Command")]
    pub command: Vec<String>,
}

/// Turn a recording into metrics, lines or a report, with the code that counts live pins.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch replay pins.pw --as metrics
  pinwatch replay pins.pw --as tail --failed
  pinwatch replay pins.pw --as report

The metrics are those of the daemon at the end of the recording, without those of its own process and of memory that is pinned now.
`pinwatch top --replay FILE` shows a recording on the full screen.")]
pub struct Replay {
    /// Recording to read
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Output format
    #[arg(long, value_name = "OUTPUT")]
    pub r#as: As,

    /// Write JSON. Only with --as tail (one object per line) or --as report (one object)
    #[arg(long)]
    pub json: bool,

    /// Speed of --as tail: 1 is real time, 10 is ten times faster [default: as fast as possible]
    #[arg(long, value_name = "X", value_parser = speed)]
    pub speed: Option<f64>,

    #[command(flatten)]
    pub filter: Filter,
}

impl Replay {
    /// Flags of `pinwatch tail --replay` that show this recording.
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

/// Output format of `pinwatch replay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum As {
    Metrics,
    Tail,
    Report,
}

/// Evaluate a recording: claims about the path, costs, failures, slowest pins.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch report pins.pw
  pinwatch report pins.pw --what-if migrate-max=10,isolate-max=100 --what-if forward-progress
  pinwatch report pins.pw --what-if wait=1ms,10ms,100ms,1s --html holds.html
  pinwatch report pins.pw --json | jq '.claims[] | [.id, .verdict]'

docs/evaluation.md describes how each claim is judged.")]
pub struct Report {
    /// Recording to read
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Write one JSON object
    #[arg(long)]
    pub json: bool,

    /// Estimate how the pins would have ended under another rule: migrate-max=N, isolate-max=N (or
    /// both, separated by a comma), immediate, forward-progress, wait=DURATION for busy folios (or several,
    /// separated by commas) (repeatable)
    #[arg(long, value_name = "RULE")]
    pub what_if: Vec<Rules>,

    /// Also write a page about how long blockers held: the curve and the waits of --what-if
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Compare the recordings of two kernels: is the new one worse?
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch compare base.pw new.pw
  pinwatch compare base.pw new.pw --allow hooks --html comparison.html
  pinwatch compare base1.pw new1.pw --more-base base2.pw,base3.pw --more-new new2.pw,new3.pw

Exit status: 0 the new kernel is no worse, 1 it is worse, 2 the recordings cannot be read or
compared. docs/evaluation.md describes how this is decided.")]
pub struct Compare {
    /// Recording of the known kernel
    #[arg(value_name = "BASE")]
    pub base: PathBuf,

    /// Recording of the new kernel
    #[arg(value_name = "NEW")]
    pub new: PathBuf,

    /// More recordings of the known kernel, separated by commas. With three or more on both sides,
    /// runs are compared instead of pins
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    pub more_base: Vec<PathBuf>,

    /// More recordings of the new kernel, separated by commas
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    pub more_new: Vec<PathBuf>,

    /// Compare although the recordings differ in this aspect (repeatable)
    #[arg(long, value_name = "DIFF", value_delimiter = ',')]
    pub allow: Vec<Aspect>,

    /// Smallest change that counts as better or worse, in percent. A share must differ by a
    /// twentieth of this number, in percentage points: 0.25 by default
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    pub threshold: f64,

    /// Assumed standard deviation of durations between runs of one kernel, in per cent. Three or more
    /// runs on both sides replace it [default: 5; 0 if the clock of all recordings counts instructions]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub run_spread: Option<f64>,

    /// Format of the output
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        conflicts_with = "json"
    )]
    pub format: Format,

    /// Also list the figures without a difference
    #[arg(long)]
    pub all: bool,

    /// Write one JSON object
    #[arg(long)]
    pub json: bool,

    /// Also write the comparison as an HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Output format of `pinwatch compare`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// All figures with a difference
    Text,
    /// At most 30 lines of 72 columns, for the cover letter of a patch
    Mail,
    /// The layout of MMTests' compare-kernels.sh
    Mmtests,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent),
        _ => Err("expected a percentage from 0 to 1000, such as 5".to_owned()),
    }
}
