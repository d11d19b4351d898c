//! The `pinwatch` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use pinwatch::cli::config::{self, Refused};
use pinwatch::cmd;

fn main() -> ExitCode {
    let cli = match config::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Refused::Usage(answer)) => answer.exit(),
        Err(refused @ Refused::File(_)) => {
            eprintln!("pinwatch: {refused}");
            return ExitCode::FAILURE;
        }
    };
    match cmd::dispatch(cli) {
        Ok(status) => status,
        // The reader of a pipe, such as `head`, closed it on purpose.
        Err(error) if cmd::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            cmd::print_error(&error);
            cmd::status_of(&error)
        }
    }
}
