//! Real-time throttling (`kernel.sched_rt_runtime_us`): the share of each second that real-time tasks may take.
#![forbid(unsafe_code)]

use super::effect::State;
use super::files::Host;

pub const SYSCTL: &str = "proc/sys/kernel/sched_rt_runtime_us";

/// The value of the sysctl without throttling.
pub const OFF: i64 = -1;

/// Microseconds per period. The kernel accepts no longer period than this.
pub const LONGEST: i64 = 1 << 31;

pub fn state(host: &Host, before: i64) -> anyhow::Result<State> {
    Ok(match host.number::<i64>(SYSCTL)? {
        OFF => State::Ours,
        now if now == before => State::AsBefore,
        now => State::Changed(format!("it is {now} now")),
    })
}

pub fn write(host: &Host, microseconds: i64) -> anyhow::Result<()> {
    host.write(SYSCTL, &microseconds.to_string())
}
