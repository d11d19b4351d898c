//! Exit statuses of errors.

use std::io;
use std::process::ExitCode;

use crate::source::error::LiveError;

/// Exit status of a kernel that cannot be watched.
pub const UNUSABLE: u8 = 2;

/// The exit status that an error stands for.
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

/// Whether an error is only that nobody reads the output any more.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
