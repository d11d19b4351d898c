//! Command line of `pinwatch`: the list of commands.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};

use super::recording::{Compare, Record, Replay, Report};
use super::run::Run;
use super::watch::{Check, Manual, Tail, Top};

/// Measures the kernel's long-term page pins (FOLL_LONGTERM): retries, failures and latency.
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
    #[command(after_long_help = pinwatch_load::EXAMPLES)]
    Load(Box<pinwatch_load::Args>),
    #[command(hide = true)]
    Manual(Manual),
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
