//! A thread of real-time priority that takes the processor away from the pinning thread, in the middle of its pin.
//!
//! It works on kernels whose long-term path cannot wait for a userfaultfd, and asks nothing of the memory but that
//! the pin is busy with it for longer than [`NAP`]. From 6.12 on the scheduler gives other tasks 50 ms of each second
//! all the same (the fair server); before, real-time throttling would do so, and is switched off meanwhile.

use std::fs;
use std::sync::mpsc;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::Unavailable;
use crate::memory::mapping::Mapping;
use crate::plan::PAGE;
use crate::sys;

/// How often it looks whether the pin has begun.
const NAP: Duration = Duration::from_micros(200);

/// Fields drop in order: the thread ends before others may run again where it ran.
pub struct Hog {
    thread: RealTime,
    _bound: Bound,
    _unthrottled: Unthrottled,
}

impl Hog {
    /// Binds the calling thread, the one that pins, to the processor that it is on.
    pub fn new(map: &Mapping, stall_for: Duration) -> anyhow::Result<Self> {
        let mut cpu = CpuSet::new();
        cpu.set(sched_getcpu()?)?;
        let thread = RealTime::start(cpu, map.address(), stall_for)?;
        Ok(Self {
            thread,
            _unthrottled: Unthrottled::new()?,
            _bound: Bound::to(&cpu)?,
        })
    }

    /// To be called right before the pin.
    pub fn wake(&self) {
        self.thread.wake();
    }
}

/// The thread itself: asleep, then watching for the pin, then at work.
struct RealTime {
    handle: Option<JoinHandle<()>>,
    give_up: sys::Flag,
}

impl RealTime {
    fn start(cpu: CpuSet, first_page: usize, stall_for: Duration) -> anyhow::Result<Self> {
        let give_up = sys::Flag::default();
        let seen = give_up.clone();
        let (ready, is_ready) = mpsc::channel();
        let handle = thread::spawn(move || {
            let _ = ready.send(become_real_time(&cpu));
            thread::park();
            while !seen.is_set() && !is_present(first_page) {
                thread::sleep(NAP);
            }
            let end = Instant::now() + stall_for;
            while Instant::now() < end && !seen.is_set() && !sys::stop_requested() {
                std::hint::spin_loop();
            }
        });
        let thread = Self {
            handle: Some(handle),
            give_up,
        };
        match is_ready.recv()? {
            Ok(()) => Ok(thread),
            Err(errno) => Err(Unavailable::because(format!(
                "--company hog needs a real-time thread (CAP_SYS_NICE): {errno}"
            ))),
        }
    }

    fn wake(&self) {
        self.handle
            .as_ref()
            .map(JoinHandle::thread)
            .map(Thread::unpark);
    }
}

impl Drop for RealTime {
    fn drop(&mut self) {
        self.give_up.set();
        self.wake();
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

/// Real-time throttling switched off until this is dropped.
struct Unthrottled {
    before: String,
}

impl Unthrottled {
    const SYSCTL: &str = "/proc/sys/kernel/sched_rt_runtime_us";

    fn new() -> anyhow::Result<Self> {
        let before = fs::read_to_string(Self::SYSCTL).context(Self::SYSCTL)?;
        match fs::write(Self::SYSCTL, "-1") {
            Ok(()) => Ok(Self { before }),
            Err(error) => Err(Unavailable::because(format!(
                "--company hog needs to write {}: {error}",
                Self::SYSCTL
            ))),
        }
    }
}

impl Drop for Unthrottled {
    fn drop(&mut self) {
        let before = self.before.trim();
        if let Err(error) = fs::write(Self::SYSCTL, before) {
            eprintln!(
                "pinwatch load: {} stays at -1, it was {before}: {error}",
                Self::SYSCTL
            );
        }
    }
}

/// The thread that made this, bound to a processor until it drops it.
struct Bound {
    before: CpuSet,
}

impl Bound {
    fn to(cpu: &CpuSet) -> nix::Result<Self> {
        let before = sched_getaffinity(Pid::from_raw(0))?;
        sched_setaffinity(Pid::from_raw(0), cpu)?;
        Ok(Self { before })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Where it may run has shrunk in the meantime: then the kernel has seen to it.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

fn become_real_time(cpu: &CpuSet) -> nix::Result<()> {
    sched_setaffinity(Pid::from_raw(0), cpu)?;
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: `lowest` lives until the call returns.
    Errno::result(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &lowest) }).map(drop)
}

/// Whether the page has been faulted in, which is the first thing that the pin does.
fn is_present(page: usize) -> bool {
    let mut present = 0;
    // SAFETY: the kernel checks the address, and writes one byte for one page.
    let answer = unsafe { libc::mincore(page as *mut libc::c_void, PAGE, &mut present) };
    answer == 0 && present & 1 != 0
}
