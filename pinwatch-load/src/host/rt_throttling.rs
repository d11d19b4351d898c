//! Real-time throttling (`kernel.sched_rt_runtime_us`): the share of each second that real-time tasks may take.
#![forbid(unsafe_code)]

use super::change::{Change, State};
use super::files::Host;
use super::session::Session;

pub const SYSCTL: &str = "proc/sys/kernel/sched_rt_runtime_us";

/// The value of the sysctl without throttling.
pub const OFF: i64 = -1;

/// Microseconds per period. The kernel accepts no longer period than this.
pub const LONGEST: i64 = 1 << 31;

/// Switches throttling off until the session ends.
pub fn switch_off(session: &Session) -> anyhow::Result<()> {
    let before = session.host().number(SYSCTL)?;
    if before == OFF {
        return Ok(());
    }
    session.make(Change::RtThrottling { before }, |host| {
        host.write(SYSCTL, &OFF.to_string())
    })
}

pub fn state(host: &Host, before: i64) -> anyhow::Result<State> {
    Ok(match host.number::<i64>(SYSCTL)? {
        OFF => State::Ours,
        now if now == before => State::AsBefore,
        now => State::Changed(format!("it is {now} now")),
    })
}

pub fn undo(host: &Host, before: i64) -> anyhow::Result<()> {
    host.write(SYSCTL, &before.to_string())
}
