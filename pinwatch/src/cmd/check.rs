//! `pinwatch check`: the plan for this kernel, as text or JSON.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;

use super::UNUSABLE;
use super::stdout::stdout;
use crate::cli::Check;
use crate::kernel::facts::Facts;
use crate::kernel::memory;
use crate::output::check::{CheckReport, text};
use crate::probe::plan::Plan;
use crate::probe::table::wanted;

/// Runs the command. Its exit status is 0 if everything is measured, 1 if measurements are lost, and
/// [`UNUSABLE`] if no pin can be measured.
pub fn check(args: &Check) -> Result<ExitCode> {
    let facts = Facts::gather(&wanted());
    if args.facts {
        writeln!(stdout(), "{}", serde_json::to_string_pretty(&facts)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan::new(&facts, args.selection.clone());
    let warnings = memory::warnings();
    let mut out = stdout();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &CheckReport::new(&facts, &plan, &warnings))?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(&facts, &plan, &warnings))?;
    }
    Ok(if !plan.unusable.is_empty() {
        ExitCode::from(UNUSABLE)
    } else if plan.is_degraded() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
