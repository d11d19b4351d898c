//! A real-time thread that takes the CPU from the pinning thread in the middle of its pin.
//!
//! It works on kernels whose long-term path cannot wait for a userfaultfd. The pin must only take longer than [`NAP`].
//! From 6.12 on the fair server gives other tasks 50 ms of each second. Before, real-time throttling would do so; the
//! session switches it off.

use std::sync::mpsc;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::Unavailable;
use crate::memory::mapping::Mapping;
use crate::signals;
use crate::spec::page_size;

/// Time between two checks whether the pin has begun.
const NAP: Duration = Duration::from_micros(200);

/// A pin begins within this time after [`CpuHog::wake`], or the thread gives up.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);

/// Fields drop in order: the thread ends before the pinning thread may leave its CPU.
pub struct CpuHog {
    thread: RealTime,
    _bound: Bound,
}

impl CpuHog {
    /// Binds the calling thread, which must be the pinning one, to its present CPU.
    pub fn new(map: &Mapping, stall_for: Duration) -> anyhow::Result<Self> {
        let mut cpu = CpuSet::new();
        cpu.set(sched_getcpu()?)?;
        Ok(Self {
            thread: RealTime::start(cpu, map.address(), stall_for)?,
            _bound: Bound::to(&cpu)?,
        })
    }

    /// Starts the wait for the pin. Call it right before the pin.
    pub fn wake(&self) {
        self.thread.wake();
    }
}

/// The thread: it sleeps, then waits for the pin, then spins.
struct RealTime {
    handle: Option<JoinHandle<()>>,
    give_up: signals::Flag,
}

impl RealTime {
    fn start(cpu: CpuSet, first_page: usize, stall_for: Duration) -> anyhow::Result<Self> {
        let give_up = signals::Flag::default();
        let seen = give_up.clone();
        let stopped = move || seen.is_set() || signals::stop_requested();
        let (ready, is_ready) = mpsc::channel();
        let handle = thread::spawn(move || {
            let _ = ready.send(become_real_time(&cpu));
            thread::park();
            let give_up = Instant::now() + BEGINS_WITHIN;
            while !is_present(first_page) {
                if stopped() || Instant::now() >= give_up {
                    return;
                }
                thread::sleep(NAP);
            }
            let end = Instant::now() + stall_for;
            while Instant::now() < end && !stopped() {
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
                "--company hog needs a real-time thread, and the kernel refused one ({errno}): run it as root (CAP_SYS_NICE)"
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

/// A thread that is bound to one CPU until it drops this.
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
        // It fails only if the cpuset has lost these CPUs since. Then the kernel has moved the thread.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

fn become_real_time(cpu: &CpuSet) -> nix::Result<()> {
    sched_setaffinity(Pid::from_raw(0), cpu)?;
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: `lowest` lives until the call returns.
    Errno::result(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &lowest) }).map(drop)
}

/// Whether the page was faulted in, which a pin does first.
fn is_present(page: usize) -> bool {
    let mut present = 0;
    // SAFETY: the kernel checks the address and writes one byte for one page.
    let answer = unsafe { libc::mincore(page as *mut libc::c_void, page_size(), &mut present) };
    answer == 0 && present & 1 != 0
}
