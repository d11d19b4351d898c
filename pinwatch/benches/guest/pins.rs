//! The pins whose price is asked for, and how long the system call takes that
//! makes each, by the processor's own clock. In a guest whose clock counts
//! instructions that is their number.

use std::arch::x86_64::_rdtsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use io_uring::IoUring;
use libc::iovec;
use memmap2::{Advice, MmapMut, UncheckedAdvice};
use nix::errno::Errno;
use serde::Serialize;

const PAGE: usize = 4096;
const MOST_PAGES: usize = 512;
/// After a pin is undone. On 6.1, without it, every second pin took some hundred instructions more:
/// what io_uring leaves to a worker and to RCU, as we take it.
const SETTLE: Duration = Duration::from_millis(2);
/// What hooks do for some pins only takes less, what the kernel does on the side takes more: an
/// interrupt, another process, or, on 7.3 in one pin of 32, some 12,800 instructions that we take
/// for the allocator's.
const FAR: u64 = 2_500;

/// One kind of pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pin {
    /// One page, which the pin itself faults in where it may stay.
    One,
    /// 512 pages where they may stay, but for the first as [`Pin::One`]: GUP-fast
    /// gives up there.
    Many,
    /// 256 pages in ZONE_MOVABLE.
    Migrated,
    /// One page, for the time of a system call.
    ShortTerm,
}

impl Pin {
    pub const ALL: [Self; 4] = [Self::One, Self::Many, Self::Migrated, Self::ShortTerm];

    /// Calls that are timed: fewer of those that take longer.
    fn calls(self) -> usize {
        match self {
            Self::One | Self::ShortTerm => 1001,
            Self::Many => 201,
            Self::Migrated => 51,
        }
    }

    fn pages(self) -> usize {
        match self {
            Self::One | Self::ShortTerm => 1,
            Self::Many => MOST_PAGES,
            Self::Migrated => 256,
        }
    }
}

/// What a pin takes.
pub struct Price {
    /// of the processor's clock
    pub ticks: u64,
    /// Whether no more than a tenth of the calls was too far from the others to be counted.
    pub is_steady: bool,
}

/// Memory and the means to pin it.
pub struct Pins {
    memory: MmapMut,
    ring: IoUring,
    /// Long-term pins made so far.
    pub made: u64,
}

impl Pins {
    pub fn new() -> Result<Self> {
        let memory = MmapMut::map_anon(MOST_PAGES * PAGE)?;
        memory.advise(Advice::NoHugePage)?;
        Ok(Self {
            memory,
            ring: IoUring::new(1).context("io_uring")?,
            made: 0,
        })
    }

    /// What one of many calls takes; `between` runs after each, untimed. The mean
    /// counts what only some calls pay for: of a pin of one page, of those near the
    /// median. Longer calls are fewer, and a good part of them has an interrupt, so
    /// there it is the median itself.
    pub fn price(&mut self, pin: Pin, mut between: impl FnMut()) -> Result<Price> {
        // The first calls fault memory in and fill caches.
        const WARM_UP: usize = 10;
        self.forget(MOST_PAGES)?;
        let mut took = Vec::with_capacity(pin.calls());
        for call in 0..WARM_UP + pin.calls() {
            let one = self.time(pin)?;
            between();
            sleep(SETTLE);
            if call >= WARM_UP {
                took.push(one);
            }
        }
        took.sort_unstable();
        let median = took[took.len() / 2];
        if took.len() < Pin::One.calls() {
            return Ok(Price {
                ticks: median,
                is_steady: true,
            });
        }
        let calls = took.len();
        took.retain(|took| took.abs_diff(median) < FAR);
        let near = took.len() as u64;
        Ok(Price {
            ticks: (took.iter().sum::<u64>() + near / 2) / near,
            is_steady: took.len() * 10 >= calls * 9,
        })
    }

    /// Makes one pin, and undoes it untimed.
    pub fn time(&mut self, pin: Pin) -> Result<u64> {
        match pin {
            Pin::One | Pin::Many => self.forget(1)?,
            Pin::Migrated => {
                self.forget(pin.pages())?;
                let pages = self.memory[..pin.pages() * PAGE].iter_mut().step_by(PAGE);
                pages.for_each(|byte| *byte = 1);
            }
            Pin::ShortTerm => return self.read_own_memory(),
        }
        let range = iovec {
            iov_base: self.memory.as_mut_ptr().cast(),
            iov_len: pin.pages() * PAGE,
        };
        let submitter = self.ring.submitter();
        let start = now();
        // SAFETY: the memory stays mapped, and no request uses the buffer.
        let registered = unsafe { submitter.register_buffers(&[range]) };
        let took = now() - start;
        registered.context("registering a buffer")?;
        submitter.unregister_buffers()?;
        self.made += 1;
        Ok(took)
    }

    /// Makes one that fails at once: there is no memory at the first page.
    pub fn fail(&mut self) -> Result<()> {
        let nowhere = iovec {
            iov_base: PAGE as *mut libc::c_void,
            iov_len: PAGE,
        };
        // SAFETY: refused, as nothing is mapped below `vm.mmap_min_addr`.
        let registered = unsafe { self.ring.submitter().register_buffers(&[nowhere]) };
        ensure!(registered.is_err(), "there is memory at the first page");
        self.made += 1;
        Ok(())
    }

    /// Reads the last page into the one before it.
    fn read_own_memory(&mut self) -> Result<u64> {
        let (to, from) = self.memory[(MOST_PAGES - 2) * PAGE..].split_at_mut(PAGE);
        from[0] = 1;
        let [to, from] = [to, from].map(|page| iovec {
            iov_base: page.as_mut_ptr().cast(),
            iov_len: page.len(),
        });
        let pid = std::process::id() as i32;
        let start = now();
        // SAFETY: both are pages of this process, and `to` is borrowed mutably.
        let read = unsafe { libc::process_vm_readv(pid, &to, 1, &from, 1, 0) };
        let took = now() - start;
        ensure!(Errno::result(read)? == PAGE as isize, "a short read");
        Ok(took)
    }

    /// Gives the first pages back; the next touch, or pin, faults in new ones.
    fn forget(&mut self, pages: usize) -> Result<()> {
        // SAFETY: private anonymous memory without references into it; it reads as zeroes afterwards.
        unsafe {
            self.memory
                .unchecked_advise_range(UncheckedAdvice::DontNeed, 0, pages * PAGE)?;
        }
        Ok(())
    }
}

/// How fast the processor's clock is.
pub fn ticks_per_ns() -> f64 {
    let (start, ticks) = (Instant::now(), now());
    sleep(Duration::from_millis(200));
    (now() - ticks) as f64 / start.elapsed().as_nanos() as f64
}

/// The processor's clock: nanoseconds in a guest that counts instructions.
pub fn now() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { _rdtsc() }
}
