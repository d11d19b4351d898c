//! Exit status of an error.

#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use crate::source::error::LiveError;

/// Exit status for a kernel whose pins cannot be measured.
pub const UNUSABLE: u8 = 2;

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
