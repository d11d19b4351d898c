//! Commands that look at a kernel: tail, top, check; and manual.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::model::filter::Filter;
use crate::probe::plan::Selection;
use crate::stream::serve::DEFAULT_SOCKET;

/// Pins as they end, a line each, and pins in flight that are old.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch tail
  pinwatch tail --connect --failed --origin rdma,vfio
  pinwatch tail --min-latency 10ms --in-flight-after 5s
  pinwatch tail --json --duration 60s | jq -r 'select(.type == \"pin\") | [.comm, .duration_ns] | @tsv'

Without --connect it attaches to the kernel by itself. Ctrl-C ends it with a summary.
docs/tail.md has every column and every field of --json.")]
pub struct Tail {
    /// Age from which a pin in flight gets a line, and another each time its age doubles
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub in_flight_after: Duration,

    /// One JSON object per line
    #[arg(long)]
    pub json: bool,

    /// End after this long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub follow: Follow,
}

/// A full-screen view: pins in flight, processes and origins, latency over time.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch top
  pinwatch top --connect
  pinwatch top --connect --origin rdma --min-latency 1ms
  pinwatch top --replay pins.pw --speed 10

Without --connect it attaches to the kernel by itself. The filters apply to processes; h shows the keys.")]
pub struct Top {
    #[command(flatten)]
    pub follow: Follow,
}

/// Whose pins, and which.
#[derive(Clone, Debug, Args)]
pub struct Follow {
    /// Follow a running daemon by its socket instead of attaching to the kernel
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = DEFAULT_SOCKET)]
    #[arg(conflicts_with_all = ["prefer", "with", "without"])]
    pub connect: Option<PathBuf>,

    /// Show a recording again instead
    #[arg(long, value_name = "FILE", conflicts_with = "connect")]
    pub replay: Option<PathBuf>,

    /// Seconds of the recording that pass in one [default: 1 for top, no waiting for tail]
    #[arg(long, value_name = "X", requires = "replay", value_parser = speed)]
    pub speed: Option<f64>,

    #[command(flatten)]
    pub selection: Selection,

    #[command(flatten)]
    pub filter: Filter,
}

pub(super) fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (0.001..=1e6).contains(&speed) => Ok(speed),
        _ => Err("a number from 0.001 to 1000000 is needed".to_owned()),
    }
}

/// What will be measured here, with which hook, and what is lost and why.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch check
  pinwatch check --json | jq '.decisions[] | select(.verdict == \"lost\")'

Attaches nothing. Exit status: 0 everything is measured, 1 degraded, 2 unusable.")]
pub struct Check {
    /// Print the plan as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Print the facts that the plan is made from, as one JSON object: a fact sheet
    #[arg(long, conflicts_with = "json")]
    pub facts: bool,

    #[command(flatten)]
    pub selection: Selection,
}

/// Write the manual pages and the shells' completions into a folder
#[derive(Debug, Args)]
pub struct Manual {
    /// The folder; made if need be
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}
