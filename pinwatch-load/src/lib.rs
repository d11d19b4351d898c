//! `pinwatch load`: makes pins on this machine, the ground truth that the metrics are tested against.
//!
//! A [`Plan`](plan::Plan) (a row of the scenario table, with the flags laid over it) says what to do; the
//! [`runner`] makes the memory, whatever gets in its way, and the pins; [`report`] prints what each system
//! call returned and in which zones the pages were before and after it. A pin that fails with an errno is a
//! result like any other. Nothing here looks at pinwatch's own measurements: that would make the truth circular.

mod args;
mod check;
mod contention;
mod doomed;
mod evaluation;
mod memory;
mod pinner;
mod plan;
mod report;
mod runner;
mod scenario;
mod sys;

use std::io::{self, Write};
use std::process::ExitCode;

pub use args::{Args, EXAMPLES};

use memory::census::Census;
use memory::hugepool::HugePool;
use pinner::Loan;
use plan::{Memory, Plan};

/// The load cannot be made here, or not like that: exit status 2 with this sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unavailable(String);

impl Unavailable {
    fn because(why: impl Into<String>) -> anyhow::Error {
        Self(why.into()).into()
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.list {
        return report::broken_pipe_is_fine(io::stdout().write_all(scenario::list().as_bytes()))
            .map(|()| ExitCode::SUCCESS);
    }
    let made = if args.evaluation {
        evaluation::run(&args)
    } else {
        make(&args)
    };
    match made {
        Err(error) if error.is::<Unavailable>() => {
            eprintln!("pinwatch load: {error}");
            Ok(ExitCode::from(2))
        }
        done => done,
    }
}

fn make(args: &Args) -> anyhow::Result<ExitCode> {
    make_plan(Plan::from_args(args.clone())?, args.style())
}

fn make_plan(mut plan: Plan, style: report::Style) -> anyhow::Result<ExitCode> {
    sys::stop_on_signals()?;
    sys::raise_memlock_limit();
    let census = Census::open()?;
    if census.is_none() {
        eprintln!(
            "pinwatch load: zones are left out: page frame numbers and /proc/zoneinfo need root (CAP_SYS_ADMIN)"
        );
    }
    plan.settle(census.as_ref())?;
    check::fits(&plan, census.as_ref())?;
    check::warn_of_memlock_limit(&plan);
    let _pool = match plan.memory {
        Memory::Hugetlb => Some(HugePool::with_free(plan.resident_pages() / plan::HUGE)?),
        _ => None,
    };
    let loan = Loan::take(&plan)?;
    if plan.in_child {
        return doomed::run(&plan, loan, style);
    }
    runner::run(&plan, &loan, census.as_ref(), style)
}
