//! The kernel stack of a thread, on request. See `pinwatch_ebpf::probes::stack`
//! for why a thread that runs takes it itself.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::Map;
use aya::programs::PerfEvent;
use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use pinwatch_common::record::{STACK_FRAMES, StackSample};
use serde::Serialize;
use thiserror::Error;

use super::error::LiveError;
use super::shared_memory::{share, word_at};
use crate::kernel::kallsyms::Symbols;
use crate::kernel::perf_event::{Trigger, disable, enable, trigger};
use crate::kernel::procfs;

/// How long a thread that runs may take to be sampled.
const PATIENCE: Duration = Duration::from_millis(200);
const PERIOD_NS: u64 = 1_000_000;

/// A thread's kernel stack, innermost function first.
#[derive(Debug, Serialize)]
pub struct Stack {
    /// How it was taken, and so what it lacks.
    pub taken: &'static str,
    pub frames: Vec<String>,
}

/// Why there is no stack.
#[derive(Debug, Error)]
pub enum StackError {
    #[error("the thread has ended")]
    Ended,
    #[error("the thread is not in the kernel")]
    UserSpace,
    #[error("the thread is runnable and was on no CPU for {} ms", PATIENCE.as_millis())]
    Starved,
    #[error(
        "the thread sleeps, and the stack of one that does can be read only with --capabilities keep"
    )]
    Asleep,
    #[error("cannot sample the thread: {0}")]
    Sample(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Takes stacks, one at a time.
pub struct Stacks {
    timers: Result<Timers, String>,
    symbols: io::Result<Symbols>,
    sample: MmapRaw,
    /// Whether a sleeping thread's whole stack may be read from outside: it may
    /// wake meanwhile.
    may_unwind: bool,
    one_at_a_time: Mutex<()>,
}

impl Stacks {
    /// Loads the program and makes its timers, which run only when somebody asks.
    pub fn load(ebpf: &mut Ebpf, may_unwind: bool) -> Result<Self, LiveError> {
        Ok(Self {
            timers: Timers::load(ebpf),
            symbols: Symbols::open(),
            sample: share::<StackSample>(ebpf, "STACK", 1)?,
            may_unwind,
            one_at_a_time: Mutex::new(()),
        })
    }

    /// The stack of a thread; takes up to [`PATIENCE`].
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
        let read = |file| fs::read_to_string(format!("/proc/{tid}/{file}")).map_err(ended);
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
            // What the kernel says to those that may not know.
            "0" => Err(StackError::Asleep),
            function => Ok(Stack {
                taken: "while it slept: the function it sleeps in only, since kretprobes are attached",
                frames: vec![function.to_owned()],
            }),
        }
    }

    /// The return addresses of a thread that runs; `None` if it does not.
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
            while word(TAKEN) == before && asked.elapsed() < PATIENCE {
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

/// A timer on each CPU that was online at the start.
struct Timers {
    events: Vec<OwnedFd>,
    /// Whose stack the program takes.
    of: MmapRaw,
}

impl Timers {
    fn load(ebpf: &mut Ebpf) -> Result<Self, String> {
        const PROGRAM: &str = "stack_sample";
        const OF: &str = "STACK_OF";
        let Some(Map::Array(of)) = ebpf.map(OF) else {
            return Err(format!("no map {OF}"));
        };
        let of = MmapOptions::new()
            .len(size_of::<u64>())
            .map_raw(of.fd().as_fd().as_raw_fd())
            .map_err(|error| error.to_string())?;
        let program = ebpf.program_mut(PROGRAM).ok_or("no such program")?;
        let program: &mut PerfEvent = program.try_into().map_err(|_| "no such program")?;
        program.load().map_err(|error| error.to_string())?;
        let program = program.fd().map_err(|error| error.to_string())?.as_fd();
        let cpus = aya::util::online_cpus().map_err(|(path, error)| format!("{path}: {error}"))?;
        let timer = |cpu| {
            let period_ns = PERIOD_NS;
            trigger(Trigger::Timer { cpu, period_ns }, program)
        };
        let events = cpus.into_iter().map(timer).collect::<io::Result<_>>();
        let events = events.map_err(|error| format!("perf_event_open: {error}"))?;
        Ok(Self { events, of })
    }

    /// Lets them look for a thread meanwhile; afterwards nothing writes the sample.
    fn run(&self, tid: u32, meanwhile: impl FnOnce()) -> io::Result<()> {
        self.look_for(tid);
        let enabled = self.events.iter().try_for_each(enable);
        if enabled.is_ok() {
            meanwhile();
        }
        let disabled = self.events.iter().map(disable).fold(Ok(()), Result::and);
        self.look_for(0);
        enabled.and(disabled)
    }

    fn look_for(&self, tid: u32) {
        // SAFETY: the mapping is page-aligned and holds one word.
        let of = unsafe { &*self.of.as_mut_ptr().cast::<AtomicU64>() };
        of.store(tid.into(), Ordering::Relaxed);
    }
}

/// `[<0>] function+0x12/0x34`, without the address and the size.
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
    fn what_procfs_says() {
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
