//! The load of an evaluation: scenarios that together cover every part of the long-term path. Each runs in a thread
//! with the name of the scenario, so that a recording can separate them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;
use nix::sys::prctl;

use crate::cli::Args;
use crate::error::Unavailable;
use crate::execute::run_plan;
use crate::scenarios;
use crate::signals;
use crate::spec::Pages;

/// A scenario, with the pages and pins that an estimate needs.
struct Row {
    scenario: &'static str,
    /// None: the size that the scenario has.
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
    // Pages that must migrate.
    row("touched", Some(16), 20),
    row("touched", Some(256), 10),
    row("touched", Some(2048), 2),
    row("memfd", None, 6),
    // Pages that stay where the pin faults them in. The sizes show the cost of a pass.
    row("untouched", Some(1), 20),
    row("untouched", Some(64), 6),
    row("untouched", Some(512), 4),
    row("untouched", Some(4096), 2),
    row("zero-page", None, 6),
    row("fork", None, 6),
    row("thp", None, 4),
    // Devices, if there are any. Few pages: before 5.13 each is a pin of its own. "vfio" and "rdma" pin with FOLL_WRITE,
    // the others without.
    row("vfio", Some(8), 10),
    row("vfio-read-only", Some(8), 10),
    row("vfio-zero-page", Some(8), 10),
    row("rdma", Some(8), 10),
    row("rdma-read-only", Some(8), 10),
    row("rdma-zero-page", Some(8), 10),
    // Contention.
    row("held-one", None, 6),
    row("held-thp", None, 2),
    row("contention", None, 4),
    row("two-pinners", None, 2),
];

/// All rows run once per round, so that other activity on the machine affects all rows alike.
const ROUNDS: u64 = 10;

pub fn run(args: &Args) -> Result<ExitCode> {
    let rounds = ROUNDS.saturating_mul(args.repeat.unwrap_or(1));
    for round in 1..=rounds {
        eprintln!("pinwatch load: round {round} of {rounds}");
        for row in ROWS {
            if signals::stop_requested() {
                return Ok(ExitCode::SUCCESS);
            }
            match row.run(args) {
                // The other rows stay valid.
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
    /// Makes the pins of one round.
    fn run(&self, args: &Args) -> Result<ExitCode> {
        let mut plan = Args {
            scenario: Some(scenarios::find(self.scenario)),
            ..args.clone()
        }
        .plan()?;
        plan.pages = self.pages.map_or(plan.pages, Pages::Count);
        plan.repeat = self.repeat;
        let name = std::ffi::CString::new(self.scenario)?;
        prctl::set_name(&name)?;
        run_plan(plan, args.style(), args.disruptive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{disruption, fake};

    #[test]
    fn rows_are_scenarios_whose_names_fit_a_thread() {
        for row in ROWS {
            assert_eq!(scenarios::find(row.scenario).name, row.scenario);
            assert!(row.scenario.len() < 16);
        }
    }

    #[test]
    fn an_evaluation_does_not_disturb_the_host() {
        for row in ROWS {
            let plan = &scenarios::find(row.scenario).plan;
            disruption::consent(plan, &fake::Fake::new().host, false).expect(row.scenario);
        }
    }
}
