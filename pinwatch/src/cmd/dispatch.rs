//! Selects the command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;

use super::{check, compare, manual, record, replay, report, run, tail, top};
use crate::cli::{Cli, Command};

/// Runs the command of the parsed command line.
pub fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Replay(args) => replay::run(*args),
        Command::Report(args) => report::run(&args),
        Command::Compare(args) => Ok(compare::run(&args)),
        Command::Tail(args) => tail::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Load(args) => pinwatch_load::run(*args),
        Command::Manual(args) => manual::manual(&args),
    }
}
