//! perf events that run a BPF program, until their descriptor is closed.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya_obj::generated::{
    PERF_FLAG_FD_CLOEXEC, perf_event_attr, perf_event_attr__bindgen_ty_1, perf_sw_ids, perf_type_id,
};

/// What runs a program.
#[derive(Clone, Copy, Debug)]
pub enum Trigger {
    /// A trace event, in every task on every CPU. aya does this for tracepoint
    /// programs only.
    TraceEvent { id: u64 },
    /// A timer in one thread, while it is on a CPU.
    Timer { tid: u32, period_ns: u64 },
}

/// Attaches a program.
pub fn trigger(on: Trigger, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
    const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
    let mut attr = perf_event_attr {
        size: size_of::<perf_event_attr>() as u32,
        // SAFETY: a C struct of integers and bit fields, for which 0 is valid.
        ..unsafe { std::mem::zeroed() }
    };
    let (pid, cpu) = match on {
        Trigger::TraceEvent { id } => {
            attr.type_ = perf_type_id::PERF_TYPE_TRACEPOINT as u32;
            attr.config = id;
            // All tasks, on CPU 0: a program on a trace event runs on all CPUs.
            (-1, 0)
        }
        Trigger::Timer { tid, period_ns } => {
            attr.type_ = perf_type_id::PERF_TYPE_SOFTWARE as u32;
            attr.config = perf_sw_ids::PERF_COUNT_SW_CPU_CLOCK as u64;
            attr.__bindgen_anon_1 = perf_event_attr__bindgen_ty_1 {
                sample_period: period_ns,
            };
            (tid as i32, -1)
        }
    };
    let group = -1;
    // SAFETY: `attr` is initialised and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            pid,
            cpu,
            group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the call above made, owned by nobody else.
    let perf = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    for (request, argument) in [
        (PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()),
        (PERF_EVENT_IOC_ENABLE, 0),
    ] {
        // SAFETY: both requests take an integer.
        if unsafe { libc::ioctl(perf.as_raw_fd(), request, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(perf)
}
