//! Kernel stack of a thread, on request.
//!
//! A running thread samples its own stack: `pinwatch_ebpf::probes::stack` has the reason. procfs has the
//! stack of a sleeping thread.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::Map;
use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use pinwatch_common::record::{STACK_FRAMES, StackSample};
use serde::Serialize;
use thiserror::Error;

use super::error::LiveError;
use super::shared_memory::{share, word_at};
use super::timer;
use crate::kernel::kallsyms::KernelSymbols;
use crate::kernel::perf_event::{disable, enable};
use crate::kernel::procfs;

/// Longest wait for a sample. A thread that runs is sampled within one period.
const SAMPLE_TIMEOUT: Duration = Duration::from_millis(200);
/// Period of the timers.
const PERIOD_NS: u64 = 1_000_000;

/// A thread's kernel stack, innermost function first.
#[derive(Debug, Serialize)]
pub struct Stack {
    /// State of the thread when the stack was taken, with limitations of the stack.
    pub taken: &'static str,
    pub frames: Vec<String>,
}

/// Reason why a thread's stack cannot be taken.
#[derive(Debug, Error)]
pub enum StackError {
    #[error("the thread has ended")]
    Ended,
    #[error("the thread runs in user space and has no kernel stack")]
    UserSpace,
    #[error("the thread is runnable but got no CPU for {} ms; ask again", SAMPLE_TIMEOUT.as_millis())]
    Starved,
    #[error(
        "the thread sleeps; start pinwatch with --capabilities keep to read stacks of such threads"
    )]
    Asleep,
    #[error("cannot sample the thread: {0}")]
    Sample(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Sampler of kernel stacks. Takes one stack at a time.
pub struct Stacks {
    timers: Result<Timers, String>,
    symbols: io::Result<KernelSymbols>,
    sample: MmapRaw,
    /// Whether a sleeping thread may be unwound from outside. It can wake meanwhile, and unwinding a running
    /// thread warns while a kretprobe is attached.
    may_unwind: bool,
    one_at_a_time: Mutex<()>,
}

impl Stacks {
    /// Loads the program and creates its timers, which are enabled only during a request.
    pub fn load(ebpf: &mut Ebpf, may_unwind: bool) -> Result<Self, LiveError> {
        Ok(Self {
            timers: Timers::load(ebpf),
            symbols: KernelSymbols::open(),
            sample: share::<StackSample>(ebpf, "STACK", 1)?,
            may_unwind,
            one_at_a_time: Mutex::new(()),
        })
    }

    /// Kernel stack of a thread. Blocks for up to [`SAMPLE_TIMEOUT`].
    pub fn of(&self, tid: u32) -> Result<Stack, StackError> {
        let addresses = self.sampled(tid)?;
        if let Some(addresses) = addresses {
            let symbols = self.symbols.as_ref();
            let symbols = symbols.map_err(|error| StackError::Sample(error.to_string()))?;
            return Ok(Stack {
                taken: "while it ran",
                frames: symbols.resolve(&addresses)?,
            });
        }
        let ended = |error: io::Error| match error.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT) => StackError::Ended,
            Some(libc::EACCES | libc::EPERM) => StackError::Asleep,
            _ => StackError::Io(error),
        };
        let read = |file| procfs::read(format!("/proc/{tid}/{file}")).map_err(ended);
        if procfs::stat_field(&read("stat")?, procfs::STATE) == Some('R') {
            return Err(StackError::Starved);
        }
        if self.may_unwind {
            return Ok(Stack {
                taken: "while it slept",
                frames: read("stack")?.lines().map(frame).collect(),
            });
        }
        match read("wchan")?.as_str() {
            // The kernel shows "0" to readers without permission.
            "0" => Err(StackError::Asleep),
            function => Ok(Stack {
                taken: "while it slept; only the function that it sleeps in, because kretprobes are attached",
                frames: vec![function.to_owned()],
            }),
        }
    }

    /// Return addresses of a running thread, innermost first; `None` if it did not run within the timeout.
    fn sampled(&self, tid: u32) -> Result<Option<Vec<u64>>, StackError> {
        const TAKEN: usize = std::mem::offset_of!(StackSample, taken) / 8;
        const BYTES: usize = std::mem::offset_of!(StackSample, bytes) / 8;
        const FRAMES: usize = std::mem::offset_of!(StackSample, frames) / 8;
        let timers = self.timers.as_ref();
        let timers = timers.map_err(|error| StackError::Sample(error.clone()))?;
        let _one = self.one_at_a_time.lock().expect("no holder panics");
        let word = |n| word_at::<StackSample>(&self.sample, 0, n);
        let before = word(TAKEN);
        timers.run(tid, || {
            let asked = Instant::now();
            while word(TAKEN) == before && asked.elapsed() < SAMPLE_TIMEOUT {
                thread::sleep(Duration::from_nanos(PERIOD_NS));
            }
        })?;
        if word(TAKEN) == before {
            return Ok(None);
        }
        match word(BYTES) as i64 {
            bytes if bytes > 0 => {
                let frames = (bytes as usize / 8).min(STACK_FRAMES);
                Ok(Some((0..frames).map(|n| word(FRAMES + n)).collect()))
            }
            0 => Err(StackError::UserSpace),
            error if Errno::from_raw(-error as i32) == Errno::EFAULT => Err(StackError::UserSpace),
            error => Err(StackError::Sample(
                Errno::from_raw(-error as i32).to_string(),
            )),
        }
    }
}

/// Timers that run the sampling program, one on each CPU that was online at the start.
struct Timers {
    events: Vec<OwnedFd>,
    /// Shared word with the id of the thread to sample; 0 for none.
    target: MmapRaw,
}

impl Timers {
    fn load(ebpf: &mut Ebpf) -> Result<Self, String> {
        const PROGRAM: &str = "stack_sample";
        const TARGET: &str = "STACK_OF";
        let Some(Map::Array(target)) = ebpf.map(TARGET) else {
            return Err(format!("the BPF object has no map {TARGET}"));
        };
        let target = MmapOptions::new()
            .len(size_of::<u64>())
            .map_raw(target.fd().as_fd().as_raw_fd())
            .map_err(|error| error.to_string())?;
        let program = timer::load_program(ebpf, PROGRAM)?;
        let cpus = timer::online_cpus()?.into_iter();
        let events = cpus.map(|cpu| timer::create(cpu, PERIOD_NS, program));
        let events = events.collect::<Result<_, _>>()?;
        Ok(Self { events, target })
    }

    /// Samples a thread while `meanwhile` runs. When this returns, nothing writes the sample.
    fn run(&self, tid: u32, meanwhile: impl FnOnce()) -> io::Result<()> {
        self.set_target(tid);
        let enabled = self.events.iter().try_for_each(enable);
        if enabled.is_ok() {
            meanwhile();
        }
        let disabled = self.events.iter().map(disable).fold(Ok(()), Result::and);
        self.set_target(0);
        enabled.and(disabled)
    }

    fn set_target(&self, tid: u32) {
        // SAFETY: the mapping is page-aligned and holds one word.
        let target = unsafe { &*self.target.as_mut_ptr().cast::<AtomicU64>() };
        target.store(tid.into(), Ordering::Relaxed);
    }
}

/// A line of `/proc/TID/stack`, `[<0>] function+0x12/0x34`, without address and size.
fn frame(line: &str) -> String {
    let name = line.split_once("] ").map_or(line, |(_, name)| name);
    match name.split_once('/') {
        Some((name, rest)) => match rest.split_once(' ') {
            Some((_, module)) => format!("{name} {module}"),
            None => name.to_owned(),
        },
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_proc_stack() {
        assert_eq!(
            frame("[<0>] folio_wait_bit+0x12/0x34"),
            "folio_wait_bit+0x12"
        );
        assert_eq!(
            frame("[<0>] ib_umem_get+0x12/0x34 [ib_uverbs]"),
            "ib_umem_get+0x12 [ib_uverbs]"
        );
    }
}
