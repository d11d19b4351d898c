//! perf events that run a BPF program. Closing the descriptor detaches the program.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya_obj::generated::{
    PERF_FLAG_FD_CLOEXEC, perf_event_attr, perf_event_attr__bindgen_ty_1, perf_sw_ids, perf_type_id,
};

const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_DISABLE: libc::c_ulong = 0x2401;
const PERF_EVENT_IOC_PERIOD: libc::c_ulong = 0x4008_2404;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// Kind of perf event that runs a program.
#[derive(Clone, Copy, Debug)]
pub enum Trigger {
    /// A trace event, in every task on every CPU. aya supports this for tracepoint programs only.
    TraceEvent { id: u64 },
    /// A timer on one CPU, in the context of the running task. Disabled until [`enable`].
    Timer { cpu: u32, period_ns: u64 },
}

/// Attaches a program to a new perf event. The error is that of perf_event_open(2) or ioctl(2).
pub fn attach(on: Trigger, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = blank();
    let (pid, cpu) = match on {
        Trigger::TraceEvent { id } => {
            attr.type_ = perf_type_id::PERF_TYPE_TRACEPOINT as u32;
            attr.config = id;
            // All tasks, opened on CPU 0: a program on a trace event runs on all CPUs.
            (-1, 0)
        }
        Trigger::Timer { cpu, period_ns } => {
            attr.type_ = perf_type_id::PERF_TYPE_SOFTWARE as u32;
            attr.config = perf_sw_ids::PERF_COUNT_SW_CPU_CLOCK as u64;
            attr.__bindgen_anon_1 = perf_event_attr__bindgen_ty_1 {
                sample_period: period_ns,
            };
            attr.set_disabled(1);
            (-1, cpu as i32)
        }
    };
    let perf = open(&attr, pid, cpu)?;
    ioctl(&perf, PERF_EVENT_IOC_SET_BPF, program.as_raw_fd())?;
    if attr.disabled() == 0 {
        enable(&perf)?;
    }
    Ok(perf)
}

/// Error with which the kernel refuses this process perf events of all tasks; `None` if it allows them.
///
/// Distributions have their own limits, so `CAP_PERFMON` is not always enough. Seccomp filters of containers
/// return `EPERM` or `ENOSYS`.
pub fn refusal() -> Option<io::Error> {
    let mut attr = blank();
    attr.type_ = perf_type_id::PERF_TYPE_SOFTWARE as u32;
    attr.config = perf_sw_ids::PERF_COUNT_SW_DUMMY as u64;
    attr.set_disabled(1);
    open(&attr, -1, 0).err()
}

fn blank() -> perf_event_attr {
    perf_event_attr {
        size: size_of::<perf_event_attr>() as u32,
        // SAFETY: a C struct of integers and bit fields, for which all zeros are valid.
        ..unsafe { std::mem::zeroed() }
    }
}

fn open(attr: &perf_event_attr, pid: i32, cpu: i32) -> io::Result<OwnedFd> {
    let group = -1;
    // SAFETY: `attr` is initialised and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const *attr,
            pid,
            cpu,
            group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Lets an event run its program. Needs no capability.
pub fn enable(event: &OwnedFd) -> io::Result<()> {
    ioctl(event, PERF_EVENT_IOC_ENABLE, 0)
}

/// Disables an event. When this returns, its program is not running.
pub fn disable(event: &OwnedFd) -> io::Result<()> {
    ioctl(event, PERF_EVENT_IOC_DISABLE, 0)
}

/// Sets the period of a timer, in nanoseconds. Needs no capability.
pub fn set_period(timer: &OwnedFd, period_ns: u64) -> io::Result<()> {
    let request = PERF_EVENT_IOC_PERIOD;
    // SAFETY: the request reads an integer of 64 bits, which outlives the call.
    match unsafe { libc::ioctl(timer.as_raw_fd(), request, &raw const period_ns) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn ioctl(event: &OwnedFd, request: libc::c_ulong, argument: i32) -> io::Result<()> {
    // SAFETY: the callers' requests take an integer.
    match unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seccomp filter under which perf_event_open(2) fails with an errno, for this thread only.
    fn refuse_by_seccomp(errno: i32) {
        let statement = |code: u32, k: u32| libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: 0,
            k,
        };
        // The number of the system call is the first field of seccomp_data.
        let mut filter = [
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
            libc::sock_filter {
                jf: 1,
                ..statement(
                    libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                    libc::SYS_perf_event_open as u32,
                )
            },
            statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | errno as u32),
            statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        nix::sys::prctl::set_no_new_privs().expect("set");
        // SAFETY: `program` and `filter` are initialised and outlive the call, which copies them.
        let set = unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
        };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn each_errno_of_seccomp_is_a_refusal() {
        for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS] {
            let refused = std::thread::spawn(move || {
                refuse_by_seccomp(errno);
                refusal().and_then(|error| error.raw_os_error())
            });
            assert_eq!(refused.join().expect("no panic"), Some(errno));
        }
    }
}
