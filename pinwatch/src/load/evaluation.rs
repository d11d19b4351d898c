//! The load of an evaluation: scenarios that between them take every way through the path,
//! each in a thread of its own name, so that a recording tells them apart.

use std::process::ExitCode;

use anyhow::Result;
use nix::sys::prctl;

use super::args::Args;
use super::plan::{Pages, Plan};
use super::{Unavailable, make_plan, scenario, sys};

/// A scenario, with as many pages and pins as an estimate needs.
struct Row {
    scenario: &'static str,
    /// None: as the scenario has it.
    pages: Option<usize>,
    repeat: u64,
}

const fn row(scenario: &'static str, pages: Option<usize>, repeat: u64) -> Row {
    Row {
        scenario,
        pages,
        repeat,
    }
}

const ROWS: &[Row] = &[
    // Pages that have to move.
    row("touched", Some(16), 200),
    row("touched", Some(256), 100),
    row("touched", Some(2048), 20),
    row("memfd", None, 60),
    // Pages that may stay where the pin faults them in; sizes for the cost of a sweep.
    row("untouched", Some(1), 200),
    row("untouched", Some(64), 60),
    row("untouched", Some(512), 40),
    row("untouched", Some(4096), 20),
    row("zero-page", None, 60),
    row("fork", None, 60),
    row("thp", None, 40),
    // Something in the way.
    row("held-one", None, 60),
    row("held-thp", None, 20),
    row("contention", None, 40),
    row("two-pinners", None, 20),
];

pub fn run(args: &Args) -> Result<ExitCode> {
    for Row {
        scenario,
        pages,
        repeat,
    } in ROWS
    {
        if sys::stop_requested() {
            break;
        }
        let mut plan = Plan::from_args(Args {
            scenario: Some(scenario::find(scenario)),
            ..args.clone()
        })?;
        plan.pages = pages.map_or(plan.pages, Pages::Count);
        plan.repeat = repeat.saturating_mul(args.repeat.unwrap_or(1));
        eprintln!("pinwatch load: {scenario}, {} times", plan.repeat);
        let name = std::ffi::CString::new(*scenario)?;
        prctl::set_name(&name)?;
        match make_plan(plan, args.style()) {
            // The others are worth as much without it.
            Err(error) if error.is::<Unavailable>() => {
                eprintln!("pinwatch load: {scenario}: {error}")
            }
            made => drop(made?),
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_scenarios_whose_names_are_those_of_threads() {
        for row in ROWS {
            assert_eq!(scenario::find(row.scenario).name, row.scenario);
            assert!(row.scenario.len() < 16);
        }
    }
}
