//! `pinwatch load`: makes long-term page pins on this machine, the ground truth of pinwatch's tests.
//!
//! A [`Plan`](plan::Plan) (the row of a scenario with the flags applied to it) describes a load. The [`runner`] prepares the
//! memory and the contention, then makes the pins. [`report`] prints the result of each system call and the zones of
//! the pages before and after it. A pin that fails with an errno is a result like any other.
//!
//! This crate cannot use the daemon's code or its measurements, so its results are independent of them. `host` makes
//! every change to the host.

mod cli;
mod contention;
mod error;
mod evaluation;
mod execute;
mod fuse;
mod heap;
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
mod stage;
mod sys;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

pub use cli::{Args, EXAMPLES};

use error::Unavailable;
use execute::run_plan;
use host::files::Host;
use host::{recovery, session, state_file};
use signals::Second;

/// Exit status of a load that is impossible here, or that needs `--disruptive`.
const UNAVAILABLE: u8 = 2;

/// Runs the command. An error is one of the load itself: exit status 1.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.list {
        return report::broken_pipe_is_fine(io::stdout().write_all(scenarios::list().as_bytes()))
            .map(|()| ExitCode::SUCCESS);
    }
    heap::settle();
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
    run_plan(args.clone().plan()?, args.style(), args.disruptive)
}
