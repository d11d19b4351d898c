//! Flags of the commands that show a kernel: tail, top, check; and of manual.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::model::filter::Filter;
use crate::probe::plan::Selection;
use crate::stream::serve::DEFAULT_SOCKET;

/// Print a line for each pin that ends, and for each pin that is in flight for long.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch tail
  pinwatch tail --connect --failed --origin rdma,vfio
  pinwatch tail --min-latency 10ms --in-flight-after 5s
  pinwatch tail --json --duration 60s | jq -r 'select(.type == \"pin\") | [.comm, .duration_ns] | @tsv'

Without --connect or --replay, tail attaches to the kernel itself and needs the privileges of
`pinwatch run`. Ctrl-C ends it with a summary.
docs/tail.md describes every column and every field of --json.")]
pub struct Tail {
    /// Age from which a pin in flight gets a line, such as 500ms or 5s. Another line follows each time
    /// the age doubles
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub in_flight_after: Duration,

    /// Write one JSON object per line
    #[arg(long)]
    pub json: bool,

    /// End after this time, such as 60s or 5m [default: run until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub follow: Follow,
}

/// Show pins in flight, processes, origins and latency over time on the full screen.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch top
  pinwatch top --connect
  pinwatch top --connect --origin rdma --min-latency 1ms
  pinwatch top --replay pins.pw --speed 10

Without --connect or --replay, top attaches to the kernel itself and needs the privileges of
`pinwatch run`.
The filters apply to the table of processes. h shows the keys.")]
pub struct Top {
    #[command(flatten)]
    pub follow: Follow,
}

/// Source of pins (this kernel, a daemon or a recording), and the filter.
#[derive(Clone, Debug, Args)]
pub struct Follow {
    /// Follow a running daemon through its Unix socket instead of attaching to the kernel. Needs the
    /// daemon's user or root [default PATH: /run/pinwatch/pinwatch.sock]
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = DEFAULT_SOCKET)]
    #[arg(conflicts_with_all = ["prefer", "with", "without"])]
    pub connect: Option<PathBuf>,

    /// Read a recording instead of attaching to the kernel. Not for record
    #[arg(long, value_name = "FILE", conflicts_with = "connect")]
    pub replay: Option<PathBuf>,

    /// Speed of --replay: 1 is real time, 10 is ten times faster [default: 1 for top, as fast as
    /// possible for tail]
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
        _ => Err("expected a factor from 0.001 to 1000000, such as 10".to_owned()),
    }
}

/// Show which measurements this kernel allows, with which hooks, and why the others are lost.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch check
  pinwatch check --json | jq '.decisions[] | select(.verdict == \"lost\")'

check attaches nothing. Exit status: 0 everything is measured, 1 measurements are lost,
2 no pin can be measured.")]
pub struct Check {
    /// Write the plan as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Write the facts about the kernel that the plan is made from, as one JSON object
    #[arg(long, conflicts_with = "json")]
    pub facts: bool,

    #[command(flatten)]
    pub selection: Selection,
}

/// Write the manual pages and the completions for bash, zsh and fish to a folder
#[derive(Debug, Args)]
pub struct Manual {
    /// Folder to write to. It is created if it does not exist
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}
