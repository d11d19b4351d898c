//! A real-time thread that takes a CPU: that of the pinning thread in the middle of its pin, or another one, whose LRU
//! batches then cannot be drained.
//!
//! The first works on kernels whose long-term path cannot wait for a userfaultfd. The pin must only take longer than [`NAP`].
//! From 6.12 on the fair server gives other tasks 50 ms of each second. Before, real-time throttling would do so; the
//! session switches it off.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
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
    /// Receives once the thread has taken another CPU.
    taken: Option<Mutex<Receiver<()>>>,
}

impl CpuHog {
    /// Takes the CPU of the pin once it has begun. Binds the calling thread, which must be the pinning one, to its
    /// present CPU.
    pub fn of_pin(map: &Mapping, stall_for: Duration) -> anyhow::Result<Self> {
        let cpu = present_cpu()?;
        Ok(Self {
            thread: RealTime::start(cpu, Begin::WhenPresent(map.address()), stall_for)?,
            _bound: Bound::to(&cpu)?,
            taken: None,
        })
    }

    /// Takes another CPU before the pin begins, with the first page of the range in that CPU's LRU batch: the pin drains all
    /// batches and waits for this CPU. Binds the calling thread to its present CPU.
    pub fn of_drain(map: &Mapping, stall_for: Duration) -> anyhow::Result<Self> {
        let present = present_cpu()?;
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let is_other =
            |cpu: &usize| allowed.is_set(*cpu) == Ok(true) && present.is_set(*cpu) == Ok(false);
        let mut other = CpuSet::new();
        match (0..CpuSet::count()).find(is_other) {
            Some(cpu) => other.set(cpu)?,
            None => {
                return Err(Unavailable::because(
                    "--company drain needs two CPUs, and this process may use one: start it with more (taskset)",
                ));
            }
        }
        let (sender, taken) = mpsc::channel();
        Ok(Self {
            thread: RealTime::start(other, Begin::WithPage(map.address(), sender), stall_for)?,
            _bound: Bound::to(&present)?,
            taken: Some(Mutex::new(taken)),
        })
    }

    /// Starts the thread's work. Call it right before the pin.
    pub fn wake(&self) {
        self.thread.wake();
        if let Some(taken) = &self.taken {
            // An error: the thread has ended, and the pin does not wait.
            let _ = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
    }
}

fn present_cpu() -> nix::Result<CpuSet> {
    let mut cpu = CpuSet::new();
    cpu.set(sched_getcpu()?)?;
    Ok(cpu)
}

/// When the thread begins to spin, after it was woken.
enum Begin {
    /// When the pin has faulted this page in.
    WhenPresent(usize),
    /// At once, after it has replaced this page by a new one, and says so.
    WithPage(usize, Sender<()>),
}

/// The thread: it sleeps, then waits for the pin, then spins.
struct RealTime {
    handle: Option<JoinHandle<()>>,
    give_up: signals::Flag,
}

impl RealTime {
    fn start(cpu: CpuSet, begin: Begin, stall_for: Duration) -> anyhow::Result<Self> {
        let give_up = signals::Flag::default();
        let seen = give_up.clone();
        let stopped = move || seen.is_set() || signals::stop_requested();
        let (ready, is_ready) = mpsc::channel();
        let handle = thread::spawn(move || {
            let _ = ready.send(become_real_time(&cpu));
            thread::park();
            let spin = || {
                let end = Instant::now() + stall_for;
                while Instant::now() < end && !stopped() {
                    std::hint::spin_loop();
                }
            };
            match begin {
                Begin::WhenPresent(first_page) => {
                    let give_up = Instant::now() + BEGINS_WITHIN;
                    while !is_present(first_page) {
                        if stopped() || Instant::now() >= give_up {
                            return;
                        }
                        thread::sleep(NAP);
                    }
                    spin();
                }
                Begin::WithPage(page, taken) => {
                    // Without a new page, the thread takes no CPU, and the drain is short.
                    if replace(page).is_ok() {
                        let _ = taken.send(());
                        spin();
                    }
                }
            }
        });
        let thread = Self {
            handle: Some(handle),
            give_up,
        };
        match is_ready.recv()? {
            Ok(()) => Ok(thread),
            Err(errno) => Err(Unavailable::because(format!(
                "--company hog or drain needs a real-time thread, and the kernel refused one ({errno}): run it as root (CAP_SYS_NICE)"
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

/// Replaces a page of anonymous memory by a new one, which is in the LRU batch of this CPU.
fn replace(page: usize) -> nix::Result<()> {
    let page = page as *mut libc::c_void;
    // SAFETY: a page of the range to be pinned. The pinning thread waits for this one, and nobody else uses the range.
    unsafe {
        Errno::result(libc::madvise(page, page_size(), libc::MADV_DONTNEED))?;
        page.cast::<u8>().write_volatile(1);
    }
    Ok(())
}

/// Whether the page was faulted in, which a pin does first.
fn is_present(page: usize) -> bool {
    let mut present = 0;
    // SAFETY: the kernel checks the address and writes one byte for one page.
    let answer = unsafe { libc::mincore(page as *mut libc::c_void, page_size(), &mut present) };
    answer == 0 && present & 1 != 0
}
