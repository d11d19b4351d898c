//! A pin in a child process that is the OOM killer's first choice. The child's fate is the result.
//!
//! The child makes one pin and prints for itself. If it is killed inside the pin, the parent prints the record and
//! the summary instead.

use std::fs;
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::host::device::DeviceLease;
use crate::memory::placement::PlacementReader;
use crate::plan::Plan;
use crate::report::{self, Outcome, Record, Report, Style};
use crate::signals::{self, Second};
use crate::{pinner, runner};

/// How long the child may take to stop before it is killed, and then to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

pub fn run(plan: &Plan, device: &DeviceLease, style: Style) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let kills_before = oom_kills()?;
    // SAFETY: the only other thread waits for signals and holds no lock that the child needs.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Child => {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            signals::watch(Second::IsIgnored);
            fs::write("/proc/self/oom_score_adj", "1000")
                .context("cannot write /proc/self/oom_score_adj")?;
            // The parent's reader has the parent's page tables.
            runner::run(plan, device, PlacementReader::open()?.as_ref(), style)
        }
        ForkResult::Parent { child } => match wait(child)? {
            WaitStatus::Exited(_, code) => Ok(ExitCode::from(code as u8)),
            WaitStatus::Signaled(_, signal, _) => {
                let by_oom = oom_kills()? > kills_before;
                eprintln!(
                    "pinwatch load: {} killed the child process {child} inside its pin",
                    if by_oom { "the OOM killer" } else { "a signal" }
                );
                let mut report = Report::new(io::stdout().lock(), style, 1).since(started);
                let printed = report
                    .pin(killed(plan, child, signal))
                    .and_then(|()| report.finish(signals::stop_requested()));
                report::broken_pipe_is_fine(printed).map(|()| ExitCode::SUCCESS)
            }
            other => anyhow::bail!("the child process {child} ended as {other:?}"),
        },
    }
}

/// Waits for the child. A requested stop is passed on, and enforced after [`STOP_WITHIN`].
fn wait(child: Pid) -> anyhow::Result<WaitStatus> {
    let mut stopping: Option<(Signal, Instant)> = None;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive => thread::sleep(signals::TICK),
            ended => return Ok(ended),
        }
        let next = match stopping {
            None if signals::stop_requested() => Signal::SIGTERM,
            Some((_, since)) if since.elapsed() < STOP_WITHIN => continue,
            Some((Signal::SIGTERM, _)) => Signal::SIGKILL,
            Some(_) => anyhow::bail!(
                "the child process {child} does not end: the kernel log may have the reason"
            ),
            None => continue,
        };
        kill(child, next)?;
        stopping = Some((next, Instant::now()));
    }
}

/// The record of a pin whose thread was killed inside it.
fn killed(plan: &Plan, child: Pid, signal: Signal) -> Record {
    Record {
        pin: 0,
        tid: child.as_raw(),
        via: plan.via,
        memory: plan.memory,
        pages: plan.pages(),
        expected_pins: pinner::expected_pins(plan),
        other_pins: 0,
        hold: plan.hold,
        result: Outcome::Killed(signal),
        errno: None,
        started_ns: None,
        ended_ns: None,
        duration_ns: None,
        held_ns: None,
        weak: None,
        waits_ns: Vec::new(),
        hold_ended_ns: None,
        moved: None,
        before: None,
        after: None,
        huge_before: None,
        huge_after: None,
    }
}

/// Processes that the OOM killer has killed since boot.
fn oom_kills() -> anyhow::Result<u64> {
    let vmstat = fs::read_to_string("/proc/vmstat").context("cannot read /proc/vmstat")?;
    let count = vmstat
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
}
