//! `pinwatch load`: makes long-term page pins on this machine, the ground truth of pinwatch's tests.
//!
//! A [`Plan`] (the row of a scenario with the flags applied to it) describes a load. The [`runner`] prepares the
//! memory and the contention, then makes the pins. [`report`] prints the result of each system call and the zones of
//! the pages before and after it. A pin that fails with an errno is a result like any other.
//!
//! This crate cannot use the daemon's code or its measurements, so its results are independent of them. `host` makes
//! every change to the host.

mod cli;
mod contention;
mod error;
mod evaluation;
mod host;
mod memory;
mod oom_child;
mod pinner;
mod plan;
mod preflight;
mod report;
mod runner;
mod scenarios;
mod signals;
mod spec;
mod sys;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

pub use cli::{Args, EXAMPLES};

use error::Unavailable;
use host::device::DeviceLease;
use host::files::Host;
use host::session::{self, Session};
use host::{disruption, hugetlb_pool, recovery, rt_throttling, state_file};
use memory::placement::PlacementReader;
use plan::Plan;
use report::Style;
use signals::Second;
use spec::{Company, HUGE, Memory};

/// Exit status of a load that is impossible here, or that needs `--disruptive`.
const UNAVAILABLE: u8 = 2;

/// Runs the command. An error is one of the load itself: exit status 1.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.list {
        return report::broken_pipe_is_fine(io::stdout().write_all(scenarios::list().as_bytes()))
            .map(|()| ExitCode::SUCCESS);
    }
    signals::block()?;
    signals::watch(Second::EndsAfter(session::restore_now));
    recovery::recover(&Host::this(), Path::new(state_file::FOLDER));
    let made = if args.evaluation {
        evaluation::run(&args)
    } else {
        run_one(&args)
    };
    match made {
        Err(error) if error.is::<Unavailable>() => {
            eprintln!("pinwatch load: {error}");
            Ok(ExitCode::from(UNAVAILABLE))
        }
        done => done,
    }
}

fn run_one(args: &Args) -> anyhow::Result<ExitCode> {
    run_plan(
        Plan::from_args(args.clone())?,
        args.style(),
        args.disruptive,
    )
}

fn run_plan(mut plan: Plan, style: Style, disruptive: bool) -> anyhow::Result<ExitCode> {
    sys::raise_memlock_limit();
    let placement = PlacementReader::open()?;
    if placement.is_none() {
        eprintln!(
            "pinwatch load: the zones of pages are left out: page frame numbers and /proc/zoneinfo need root (CAP_SYS_ADMIN)"
        );
    }
    let zones = placement.as_ref().map(PlacementReader::zones);
    plan.settle(zones)?;
    disruption::consent(&plan, &Host::this(), disruptive)?;
    preflight::fits(&plan, zones)?;
    preflight::warn_of_memlock_limit(&plan);
    // Restores the host when dropped, after everything below.
    let session = Session::begin(disruptive);
    let device = prepare_host(&plan, &session)?;
    if plan.in_child {
        return oom_child::run(&plan, &device, style);
    }
    runner::run(&plan, &device, placement.as_ref(), style)
}

/// Makes the changes to the host that a plan needs.
fn prepare_host(plan: &Plan, session: &Session) -> anyhow::Result<DeviceLease> {
    if plan.memory == Memory::Hugetlb {
        hugetlb_pool::ensure_free(session, (plan.resident_pages() / HUGE) as u64)?;
    }
    if plan.company == Company::Hog {
        rt_throttling::switch_off(session)?;
    }
    DeviceLease::take(plan, session)
}
