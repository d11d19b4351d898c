//! The commands: each puts the parts together and owns no logic of its own.

mod check;
mod run;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::load;
use crate::source::live::LiveError;

/// Exit status of a kernel that cannot be watched.
pub const UNUSABLE: u8 = 2;

/// Runs a command.
pub fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Load(args) => load::run(*args),
    }
}

/// The exit status that an error stands for.
#[must_use]
pub fn status_of(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<LiveError>() {
        Some(LiveError::Unusable(_) | LiveError::Attach { .. } | LiveError::Load(_)) => {
            ExitCode::from(UNUSABLE)
        }
        Some(LiveError::NoMap(_) | LiveError::Map(..) | LiveError::Cpus(_)) | None => {
            ExitCode::FAILURE
        }
    }
}

/// Whether an error is only that nobody reads the output any more.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
