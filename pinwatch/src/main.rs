//! The `pinwatch` command.

use std::process::ExitCode;

use clap::Parser as _;
use pinwatch::cli::Cli;
use pinwatch::cmd;

fn main() -> ExitCode {
    match cmd::dispatch(Cli::parse()) {
        Ok(status) => status,
        // Whoever read the output has seen enough.
        Err(error) if cmd::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pinwatch: {error:#}");
            cmd::status_of(&error)
        }
    }
}
