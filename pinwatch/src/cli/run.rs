//! Flags of `pinwatch run`.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::host::privileges::{Capabilities, User};
use crate::model::series::Per;
use crate::probe::plan::Selection;
use crate::web::host::host_name;
use crate::web::listen::Listen;

/// Run the daemon: attach to the kernel, count pins, serve metrics and a page over HTTP.
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

SIGTERM and SIGINT end the daemon. SIGHUP makes it read --web.config.file again.
Every flag is also an environment variable and a key of the --config file: docs/configuration.md.
Exit status: 0 stopped by a signal, 1 error, 2 this kernel cannot be measured
(`pinwatch check` gives the reason).")]
pub struct Run {
    /// TOML file with settings. Flags and environment variables override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check all settings and the files that they name, report the first error, and exit
    #[arg(long)]
    pub check_config: bool,

    /// Address to serve HTTP on, such as 0.0.0.0:10746, localhost:10746, or :10746 for all addresses
    /// (repeatable)
    #[arg(
        long = "web.listen-address",
        value_name = "[HOST]:PORT",
        default_value = "127.0.0.1:10746"
    )]
    pub listen: Vec<Listen>,

    /// YAML file with TLS and passwords, in the format of Prometheus' exporters. A change takes
    /// effect without a restart, except for switching TLS on or off: docs/web.md
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config: Option<PathBuf>,

    /// Host name under which clients may use a loopback address without TLS, besides localhost: the name that a
    /// reverse proxy on this machine passes on (repeatable)
    #[arg(long = "web.allowed-host", value_name = "NAME", value_parser = host_name)]
    pub allowed_hosts: Vec<String>,

    /// Age from which a pin in flight counts as stuck, such as 500ms, 30s or 2m
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub stuck_after: Duration,

    /// Also count pins per process or cgroup. The daemon then reads an event of each pin:
    /// docs/performance.md has the cost of a follower
    #[arg(long, value_name = "WHAT", default_value = "none")]
    pub per: Per,

    /// Maximum number of series of --per, at most 100000. Beyond it, a new series takes the place of
    /// one that has had no pin for five minutes. If there is none, its pins count in `other`
    #[arg(long, value_name = "N", default_value = "200", value_parser = max_series)]
    pub max_series: NonZeroUsize,

    /// Unix socket for --connect of `pinwatch tail`, `top` and `record`. It has mode 0600: only the
    /// daemon's user and root can connect. An existing file is replaced only if it is a socket on which
    /// nothing listens
    /// [default: /run/pinwatch/pinwatch.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Whether to keep the capabilities that attaching needs
    #[arg(long, value_name = "WHAT", default_value = "drop")]
    pub capabilities: Capabilities,

    /// User to become once every hook is attached: a name of /etc/passwd, UID, or UID:GID. It has to be able to
    /// read --web.config.file and the files that it names. With --capabilities keep, the user stays
    /// [default: nobody (65534) if started as root, else no change]
    #[arg(long, value_name = "USER")]
    pub user: Option<User>,

    /// Level of the BPF programs' own diagnostics in the log. With off, the verifier removes their
    /// code
    #[arg(long, value_name = "LEVEL", default_value = "off")]
    pub bpf_log: BpfLog,

    #[command(flatten)]
    pub selection: Selection,
}

/// Level of the BPF programs' own diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BpfLog {
    Off,
    Warn,
    Debug,
}

/// Largest `--max-series`. Their table, of some 2 MiB, is allocated at the start.
const MAX_SERIES: usize = 100_000;

fn max_series(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().and_then(NonZeroUsize::new);
    let number = number.filter(|number| number.get() <= MAX_SERIES);
    number.ok_or_else(|| format!("expected a number from 1 to {MAX_SERIES}, such as 500"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::series::Series;

    #[test]
    fn the_number_of_series_is_bounded() {
        for wrong in [
            "0",
            "-1",
            "100001",
            "1000000000000",
            "99999999999999999999",
            "x",
        ] {
            assert!(max_series(wrong).is_err(), "{wrong}");
        }
        let most = max_series("100000").expect("allowed");
        // It can be allocated.
        assert_eq!(Series::new(Per::Process, most).snapshot().most, MAX_SERIES);
    }
}
