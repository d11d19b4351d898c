//! A pin in a child process that the OOM killer is to choose first, and the child's fate as the result.
//!
//! The child makes one pin and prints for itself. Where it is killed inside, the parent prints the record and the
//! summary in its place.

use std::fs;
use std::io;
use std::mem;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::Context;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::memory::census::Census;
use crate::pinner as via;
use crate::pinner::Loan;
use crate::plan::Plan;
use crate::report::{self, Outcome, Record, Report, Style};
use crate::runner;
use crate::sys;

pub fn run(plan: &Plan, loan: Loan, style: Style) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let kills_before = oom_kills()?;
    // SAFETY: no other thread has been started yet.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            fs::write("/proc/self/oom_score_adj", "1000").context("/proc/self/oom_score_adj")?;
            // Not the parent's, which looks at the parent's page tables.
            let done = runner::run(plan, &loan, Census::open()?.as_ref(), style);
            // The parent gives it back, also for a child that is killed.
            mem::forget(loan);
            done
        }
        ForkResult::Parent { child } => match wait(child)? {
            WaitStatus::Exited(_, code) => Ok(ExitCode::from(code as u8)),
            WaitStatus::Signaled(_, signal, _) => {
                let by_oom = if oom_kills()? > kills_before {
                    "the OOM killer"
                } else {
                    "somebody"
                };
                eprintln!(
                    "pinwatch load: {by_oom} ended the child ({child}) before its pin was over"
                );
                let mut report = Report::new(io::stdout().lock(), style, 1).since(started);
                let printed = report
                    .pin(obituary(plan, child, signal))
                    .and_then(|()| report.finish(sys::stop_requested()));
                report::broken_pipe_is_fine(printed).map(|()| ExitCode::SUCCESS)
            }
            other => anyhow::bail!("the child ended as {other:?}"),
        },
    }
}

/// Waits for the child, and hands a request to stop on to it.
fn wait(child: Pid) -> anyhow::Result<WaitStatus> {
    let mut told = false;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive => thread::sleep(sys::TICK),
            ended => return Ok(ended),
        }
        if sys::stop_requested() && !told {
            kill(child, Signal::SIGTERM)?;
            told = true;
        }
    }
}

/// The record of a pin that its thread did not come back from.
fn obituary(plan: &Plan, child: Pid, signal: Signal) -> Record {
    Record {
        pin: 0,
        tid: child.as_raw(),
        via: plan.via,
        memory: plan.memory,
        pages: plan.pages(),
        expected_pins: via::expected_pins(plan.via, plan.pages()),
        result: Outcome::Killed(signal),
        errno: None,
        started_ns: None,
        ended_ns: None,
        duration_ns: None,
        before: None,
        after: None,
        huge_before: None,
        huge_after: None,
    }
}

/// Processes that the OOM killer has ended since boot.
fn oom_kills() -> anyhow::Result<u64> {
    let vmstat = fs::read_to_string("/proc/vmstat").context("/proc/vmstat")?;
    let count = vmstat
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
}
