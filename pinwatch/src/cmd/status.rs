//! Exit status of an error.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::stdout::ReaderGone;
use crate::model::format::harmless;
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

/// Prints an error to stderr. File names in it can contain any character, and are escaped.
pub fn print_error(error: &anyhow::Error) {
    let text = format!("pinwatch: {error:#}");
    let lines: Vec<_> = text.lines().map(harmless).collect();
    // If stderr is closed, nobody reads it.
    let _ = writeln!(io::stderr(), "{}", lines.join("\n"));
}

/// Whether the cause of an error is that the reader of standard output has closed it.
#[must_use]
pub fn is_reader_gone(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| {
        error
            .get_ref()
            .is_some_and(|inner| inner.is::<ReaderGone>())
    })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use anyhow::Context as _;

    use super::*;

    #[test]
    fn only_a_closed_standard_output_is_no_error() {
        let other = io::Error::from(ErrorKind::BrokenPipe);
        let other = Err::<(), _>(other).context("cannot write FILE");
        assert!(!is_reader_gone(&other.expect_err("an error")));
        let own = io::Error::new(ErrorKind::BrokenPipe, ReaderGone);
        let own = Err::<(), _>(own).context("cannot write the report");
        assert!(is_reader_gone(&own.expect_err("an error")));
    }
}
