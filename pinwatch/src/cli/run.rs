//! `pinwatch run`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::host::privileges::Capabilities;
use crate::model::series::Per;
use crate::probe::plan::Selection;

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
    pub selection: Selection,
}

/// Level of the BPF programs' diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BpfLog {
    Off,
    Warn,
    Debug,
}
