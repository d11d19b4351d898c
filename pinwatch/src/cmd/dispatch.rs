//! Selects the command, and the exit status of an error.

#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use anyhow::Result;

use super::{check, compare, manual, record, replay, report, run, tail, top};
use crate::cli::{Cli, Command};
use crate::source::error::LiveError;

/// Exit status for a kernel whose pins cannot be measured.
pub const UNUSABLE: u8 = 2;

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

/// Exit status for an error: [`UNUSABLE`] if the kernel is the reason, else 1.
#[must_use]
pub fn status_of(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<LiveError>() {
        Some(
            LiveError::Unusable(_)
            | LiveError::Attach { .. }
            | LiveError::Load(_)
            | LiveError::Kfunc(..),
        ) => ExitCode::from(UNUSABLE),
        Some(LiveError::NoMap(_) | LiveError::Map(..) | LiveError::Cpus(_)) | None => {
            ExitCode::FAILURE
        }
    }
}

/// Whether the cause of an error is a reader that closed the output (`EPIPE`).
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
