//! The `pinwatch` command.

use std::process::ExitCode;

use clap::Parser as _;
use pinwatch::cli::Cli;
use pinwatch::cmd;

fn main() -> ExitCode {
    match cmd::dispatch(Cli::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("pinwatch: {error:#}");
            cmd::status_of(&error)
        }
    }
}
