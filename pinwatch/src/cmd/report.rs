//! `pinwatch report`: evaluates one recording.

#![forbid(unsafe_code)]

use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::progress::Progress;
use super::stdout::stdout;
use crate::cli;
use crate::evaluation::capture;
use crate::host::new_file;
use crate::output::{holds, report};

pub fn run(args: &cli::Report) -> Result<ExitCode> {
    super::log::to_stderr("warn");
    let mut progress = Progress::new("read");
    let rules: Vec<_> = args
        .what_if
        .iter()
        .flat_map(|rules| rules.0.clone())
        .collect();
    let capture = capture::read(&args.file, &rules, |pins| progress.pins(pins))?;
    progress.clear();
    if let Some(path) = &args.html {
        new_file::write(path, holds::html(&capture).as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
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
