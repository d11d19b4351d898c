//! A thread of real-time priority that takes the processor away from the pinning thread, in the middle of its pin.
//!
//! It works on kernels whose long-term path cannot wait for a userfaultfd, and needs nothing of the memory but that
//! the pin is at it for longer than [`NAP`]. From 6.12 on the scheduler serves others for 50 ms in each second all
//! the same (the fair server); before, real-time throttling would, and is switched off meanwhile.

use std::ffi::c_uchar;
use std::fs;
use std::sync::mpsc;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use super::mapping::Mapping;
use super::plan::PAGE;
use super::{Unavailable, sys};

/// How often it looks whether the pin has begun.
const NAP: Duration = Duration::from_micros(200);

const RT_RUNTIME: &str = "/proc/sys/kernel/sched_rt_runtime_us";

/// Undone when dropped: by the thread that made it.
pub struct Hog {
    thread: Option<JoinHandle<()>>,
    give_up: sys::Flag,
    cpus: CpuSet,
    rt_runtime: String,
}

impl Hog {
    /// Binds the calling thread, the one that pins, to the processor that it is on.
    pub fn new(map: &Mapping, stall_for: Duration) -> anyhow::Result<Self> {
        let this = Pid::from_raw(0);
        let cpus = sched_getaffinity(this)?;
        let mut cpu = CpuSet::new();
        cpu.set(sched_getcpu()?)?;
        let rt_runtime = fs::read_to_string(RT_RUNTIME).context(RT_RUNTIME)?;
        let give_up = sys::Flag::default();
        let (ready, is_ready) = mpsc::channel();
        let (seen, first_page) = (give_up.clone(), map.address());
        let thread = thread::spawn(move || {
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
        let hog = Self {
            thread: Some(thread),
            give_up,
            cpus,
            rt_runtime,
        };
        is_ready.recv()?.map_err(|errno| {
            Unavailable::because(format!(
                "--company hog needs a real-time thread (CAP_SYS_NICE): {errno}"
            ))
        })?;
        fs::write(RT_RUNTIME, "-1").map_err(|error| {
            Unavailable::because(format!(
                "--company hog needs to write {RT_RUNTIME}: {error}"
            ))
        })?;
        sched_setaffinity(this, &cpu)?;
        Ok(hog)
    }

    /// To be called right before the pin.
    pub fn wake(&self) {
        self.thread
            .as_ref()
            .map(JoinHandle::thread)
            .map(Thread::unpark);
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.give_up.set();
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = sched_setaffinity(Pid::from_raw(0), &self.cpus);
        if let Err(error) = fs::write(RT_RUNTIME, self.rt_runtime.trim()) {
            eprintln!(
                "pinwatch load: {RT_RUNTIME} stays at -1, it was {}: {error}",
                self.rt_runtime.trim()
            );
        }
    }
}

fn become_real_time(cpu: &CpuSet) -> nix::Result<()> {
    sched_setaffinity(Pid::from_raw(0), cpu)?;
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: `lowest` lives until the call returns.
    Errno::result(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &lowest) }).map(drop)
}

/// Whether the page has been faulted in, which the pin does first.
fn is_present(page: usize) -> bool {
    let mut present: c_uchar = 0;
    // SAFETY: the kernel checks the address, and writes one byte for one page.
    let answer = unsafe { libc::mincore(page as *mut libc::c_void, PAGE, &mut present) };
    answer == 0 && present & 1 != 0
}
