//! The load of an evaluation: scenarios that between them take every way through the path,
//! each in a thread of its own name, so that a recording tells them apart.

use std::process::ExitCode;

use anyhow::Result;
use nix::sys::prctl;

use crate::Unavailable;
use crate::args::Args;
use crate::make_plan;
use crate::plan::{Pages, Plan};
use crate::scenario;
use crate::sys;

/// A scenario, with as many pages and pins as an estimate needs.
struct Row {
    scenario: &'static str,
    /// None: as the scenario has it.
    pages: Option<usize>,
    /// Pins in a round.
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
    row("touched", Some(16), 20),
    row("touched", Some(256), 10),
    row("touched", Some(2048), 2),
    row("memfd", None, 6),
    // Pages that may stay where the pin faults them in; sizes for the cost of a sweep.
    row("untouched", Some(1), 20),
    row("untouched", Some(64), 6),
    row("untouched", Some(512), 4),
    row("untouched", Some(4096), 2),
    row("zero-page", None, 6),
    row("fork", None, 6),
    row("thp", None, 4),
    // Something in the way.
    row("held-one", None, 6),
    row("held-thp", None, 2),
    row("contention", None, 4),
    row("two-pinners", None, 2),
];

/// Rounds that the pins are made in: what else goes on meanwhile then falls on all alike.
const ROUNDS: u64 = 10;

pub fn run(args: &Args) -> Result<ExitCode> {
    let rounds = ROUNDS.saturating_mul(args.repeat.unwrap_or(1));
    for round in 1..=rounds {
        eprintln!("pinwatch load: round {round} of {rounds}");
        for row in ROWS {
            if sys::stop_requested() {
                return Ok(ExitCode::SUCCESS);
            }
            match row.make(args) {
                // The others are worth as much without it.
                Err(error) if error.is::<Unavailable>() => {
                    eprintln!("pinwatch load: {}: {error}", row.scenario);
                }
                made => drop(made?),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Row {
    /// One round of it.
    fn make(&self, args: &Args) -> Result<ExitCode> {
        let mut plan = Plan::from_args(Args {
            scenario: Some(scenario::find(self.scenario)),
            ..args.clone()
        })?;
        plan.pages = self.pages.map_or(plan.pages, Pages::Count);
        plan.repeat = self.repeat;
        let name = std::ffi::CString::new(self.scenario)?;
        prctl::set_name(&name)?;
        make_plan(plan, args.style())
    }
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
