//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::evaluation::comparability::Aspect;
use crate::evaluation::what_if::Rule;
use crate::host::privileges::Capabilities;
use crate::load;
use crate::model::filter::Filter;
use crate::model::series::Per;
use crate::probe::plan::Wish;
use crate::stream::serve::DEFAULT_SOCKET;

/// Watches the kernel's long-term page pins: retries, failures and latency.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Run),
    Record(Record),
    Replay(Box<Replay>),
    Report(Report),
    Compare(Compare),
    Tail(Tail),
    Top(Top),
    Check(Check),
    /// Make long-term page pins on this machine, repeatably
    #[command(after_long_help = load::EXAMPLES)]
    Load(Box<load::Args>),
    #[command(hide = true)]
    Manual(Manual),
}

/// The daemon: attach to the kernel, aggregate, serve metrics.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pinwatch run
  pinwatch run --web.listen-address 127.0.0.1:9000 --stuck-after 30s
  pinwatch run --web.listen-address 0.0.0.0:10746 --web.config.file /etc/pinwatch/web.yml
  pinwatch run --with fast_path --without zones
  pinwatch run --capabilities keep
  pinwatch run --per process --max-series 500
  pinwatch run --config /etc/pinwatch/pinwatch.toml --check-config
  curl http://127.0.0.1:10746/metrics

Every flag is also an environment variable and a key of --config: docs/configuration.md.
Exit status: 0 stopped by a signal, 1 error, 2 this kernel cannot be watched.")]
pub struct Run {
    /// Settings in a TOML file; flags and the environment win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Read all settings and the files that they name, say what is wrong, and end
    #[arg(long)]
    pub check_config: bool,

    /// Address to serve HTTP on (repeatable)
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:10746"
    )]
    pub listen: Vec<SocketAddr>,

    /// TLS and passwords, in the format of Prometheus' exporters; a change is seen without a
    /// restart
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config: Option<PathBuf>,

    /// Age from which a pin in flight counts as stuck
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub stuck_after: Duration,

    /// Also count pins by who pinned, from a record of each pin; docs/metrics.md says at what cost
    #[arg(long, value_name = "WHAT", default_value = "none")]
    pub per: Per,

    /// Series of --per; the one that has not pinned for longest makes room, and its sums go to `other`
    #[arg(long, value_name = "N", default_value = "200")]
    pub max_series: NonZeroUsize,

    /// Unix socket for `pinwatch tail --connect` and `top --connect`; only root can use it
    /// [default: /run/pinwatch/pinwatch.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// What becomes of the capabilities that attaching needs
    #[arg(long, value_name = "WHAT", default_value = "drop")]
    pub capabilities: Capabilities,

    /// Diagnostics of the BPF programs themselves, in the log; off compiles them away
    #[arg(long, value_name = "LEVEL", default_value = "off")]
    pub bpf_log: BpfLog,

    #[command(flatten)]
    pub wish: Wish,
}

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
                wish: Wish::default(),
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
    #[arg(long, value_name = "RULE", value_parser = crate::cmd::report::rule)]
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
    pub wish: Wish,

    #[command(flatten)]
    pub filter: Filter,
}

fn speed(text: &str) -> Result<f64, String> {
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
    pub wish: Wish,
}

/// Write the manual pages and the shells' completions into a folder
#[derive(Debug, Args)]
pub struct Manual {
    /// The folder; made if need be
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Level of the BPF programs' diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BpfLog {
    Off,
    Warn,
    Debug,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn how_to_attach_is_the_daemons_business() {
        let refused = |args: &[&str]| Cli::try_parse_from(args).is_err();
        assert!(refused(&[
            "pinwatch",
            "tail",
            "--connect",
            "--attach",
            "kprobe"
        ]));
        assert!(refused(&[
            "pinwatch",
            "top",
            "--connect",
            "--without",
            "drains"
        ]));
        assert!(!refused(&["pinwatch", "tail", "--connect", "--failed"]));
        assert!(!refused(&["pinwatch", "tail", "--attach", "kprobe"]));
    }
}
