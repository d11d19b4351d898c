//! `pinwatch report`: evaluates one recording.

#![forbid(unsafe_code)]

use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use anyhow::Result;

use super::progress::Progress;
use super::stdout::stdout;
use crate::cli;
use crate::evaluation::capture;
use crate::output::report;

pub fn run(args: &cli::Report) -> Result<ExitCode> {
    super::log::to_stderr("warn");
    let mut progress = Progress::new("read");
    let capture = capture::read(&args.file, &args.what_if, |pins| progress.pins(pins))?;
    progress.clear();
    let mut out = BufWriter::new(stdout());
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report::json(&capture))?;
        writeln!(out)?;
    } else {
        report::text(&capture, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
