//! `pinwatch replay`: folds a recording with the code that counts live pins.

#![forbid(unsafe_code)]

use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use super::progress::Progress;
use super::stdout::stdout;
use super::{report, tail};
use crate::cli::{self, As};
use crate::model::format::Clock;
use crate::output::metrics::text::{self, TextFormat};
use crate::recording::replay::Replay;

pub fn run(args: cli::Replay) -> Result<ExitCode> {
    match args.r#as {
        As::Tail => tail::run(&args.into_tail()),
        As::Report => report::run(&cli::Report {
            file: args.file,
            json: args.json,
            what_if: Vec::new(),
            html: None,
        }),
        As::Metrics => metrics(&args),
    }
}

fn metrics(args: &cli::Replay) -> Result<ExitCode> {
    super::log::to_stderr("warn");
    if args.json {
        bail!(
            "--json does not go with --as metrics: leave it out, or use --as tail or --as report"
        );
    }
    let name = args.file.display().to_string();
    let mut replay = Replay::open(&args.file)?;
    let clock = Clock::of(replay.header().machine.counts_instructions);
    let (mut progress, mut pins) = (Progress::new("replayed"), 0);
    while let Some(some) = replay.next_pins().with_context(|| name.clone())? {
        pins += some.len() as u64;
        progress.pins(pins);
    }
    progress.clear();
    if let Some(damage) = replay.damage() {
        tracing::warn!("{name}: {damage}");
    }
    let lost = replay.lost.total();
    if lost > 0 {
        tracing::warn!(
            "{name}: {lost} pins or passes were lost while recording, so the metrics of pins are too low"
        );
    }
    if replay.untimed > 0 {
        tracing::warn!(
            "{name}: the recording has no single duration for {} calls of migrate_pages; pinwatch_migrate_duration_seconds leaves them out",
            replay.untimed
        );
    }
    let mut out = BufWriter::new(stdout());
    if clock == Clock::Instructions {
        writeln!(
            out,
            "# The clock of this recording counts instructions: what is named seconds is billions of instructions."
        )?;
    }
    let text = text::encode(Some(&replay.state), &[], TextFormat::Prometheus);
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
