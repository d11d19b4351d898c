//! Times the system call that makes a pin, in ticks of the processor's clock. In a guest whose clock counts
//! instructions, a tick is one instruction.

use std::arch::x86_64::_rdtsc;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use io_uring::IoUring;
use libc::iovec;
use memmap2::{Advice, MmapMut, UncheckedAdvice};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::json;

/// Function that all pins call, except those of memfd_pin_folios.
pub const PIN_PATH: &str = "__gup_longterm_locked";

/// Prints one figure with its unit.
pub fn print_figure(what: &str, value: u64, unit: &str) {
    println!("{}", json!({ "what": what, "value": value, "unit": unit }));
}

const PAGE: usize = 4096;
const MOST_PAGES: usize = 512;
/// Pause after a pin is undone. Without it, every second pin on 6.1 took some hundred instructions more,
/// probably for work that io_uring defers to a worker and to RCU.
const SETTLE: Duration = Duration::from_millis(2);
/// Distance from the median, in ticks, beyond which a pin is not counted. Work that hooks do only for some
/// pins takes less. Other work of the kernel takes more: interrupts, other processes, and on 7.3, in one
/// pin of 32, some 12,800 instructions, probably of the allocator.
const FAR: u64 = 2_500;

/// One kind of pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PinKind {
    /// One page, which the pin itself faults in outside ZONE_MOVABLE.
    One,
    /// 512 pages outside ZONE_MOVABLE. The pin faults in the first one, so that GUP-fast gives up.
    Many,
    /// 256 pages in ZONE_MOVABLE.
    Migrated,
    /// One page, for the duration of a system call.
    ShortTerm,
}

impl PinKind {
    pub const ALL: [Self; 4] = [Self::One, Self::Many, Self::Migrated, Self::ShortTerm];

    /// The kinds that this machine can make: without ZONE_MOVABLE no pin migrates pages.
    pub fn here() -> impl Iterator<Item = Self> {
        let zones = fs::read_to_string("/proc/zoneinfo").unwrap_or_default();
        let movable = zones.split("Node ").filter(|zone| {
            zone.lines()
                .next()
                .is_some_and(|name| name.ends_with("Movable"))
        });
        let managed = movable.filter_map(|zone| {
            let line = zone
                .lines()
                .find_map(|line| line.trim().strip_prefix("managed"));
            line?.trim().parse::<u64>().ok()
        });
        let can_migrate = managed.sum::<u64>() > 0;
        let all = Self::ALL.into_iter();
        all.filter(move |kind| can_migrate || *kind != Self::Migrated)
    }

    /// Number of timed calls: fewer if they take longer.
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

/// Time of a pin.
pub struct Price {
    /// Ticks of the processor's clock.
    pub ticks: u64,
    /// Whether at most a tenth of the calls was far from the median: farther than [`FAR`] and than the tolerance.
    pub is_steady: bool,
}

/// Memory and the means to pin it.
pub struct Pins {
    memory: MmapMut,
    ring: IoUring,
    /// Long-term pins made so far.
    pub made: u64,
    /// Share by which equal prices differ; `None` if the clock counts instructions.
    tolerance: Option<f64>,
}

impl Pins {
    /// For a machine whose clock counts instructions.
    pub fn new() -> Result<Self> {
        let memory = MmapMut::map_anon(MOST_PAGES * PAGE)?;
        memory.advise(Advice::NoHugePage)?;
        Ok(Self {
            memory,
            ring: IoUring::new(1).context("io_uring")?,
            made: 0,
            tolerance: None,
        })
    }

    /// For a machine on which equal prices differ by the share `tolerance`; `None` if its clock counts instructions.
    pub fn tolerating(tolerance: Option<f64>) -> Result<Self> {
        Ok(Self {
            tolerance,
            ..Self::new()?
        })
    }

    /// Whether equal prices are equal.
    pub fn are_counted(&self) -> bool {
        self.tolerance.is_none()
    }

    /// The price of one call, from many. `between` runs after each call and is not timed. For pins of one
    /// page it is the mean of the calls near the median, which includes work that only some calls do. For
    /// larger pins it is the median: they have fewer calls, and many of them contain an interrupt.
    pub fn price(&mut self, pin: PinKind, mut between: impl FnMut()) -> Result<Price> {
        // The first calls fault memory in and fill caches.
        const WARM_UP: usize = 10;
        let _here = OneProcessor::stay()?;
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
        if took.len() < PinKind::One.calls() {
            return Ok(Price {
                ticks: median,
                is_steady: true,
            });
        }
        let calls = took.len();
        let far = FAR.max((median as f64 * self.tolerance.unwrap_or_default()) as u64);
        took.retain(|took| took.abs_diff(median) < far);
        let near = took.len() as u64;
        Ok(Price {
            ticks: (took.iter().sum::<u64>() + near / 2) / near,
            is_steady: took.len() * 10 >= calls * 9,
        })
    }

    /// Makes one pin and returns its time in ticks. Undoes the pin, untimed.
    pub fn time(&mut self, pin: PinKind) -> Result<u64> {
        match pin {
            PinKind::One | PinKind::Many => self.forget(1)?,
            PinKind::Migrated => {
                self.forget(pin.pages())?;
                let pages = self.memory[..pin.pages() * PAGE].iter_mut().step_by(PAGE);
                pages.for_each(|byte| *byte = 1);
            }
            PinKind::ShortTerm => return self.read_own_memory(),
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

    /// Makes a pin that fails at once, since no memory is mapped at address 4096.
    pub fn fail(&mut self) -> Result<()> {
        let nowhere = iovec {
            iov_base: PAGE as *mut libc::c_void,
            iov_len: PAGE,
        };
        // SAFETY: refused, as nothing is mapped below `vm.mmap_min_addr`.
        let registered = unsafe { self.ring.submitter().register_buffers(&[nowhere]) };
        ensure!(
            registered.is_err(),
            "memory is mapped at address 4096, where the pin must fail"
        );
        self.made += 1;
        Ok(())
    }

    /// Reads the last page into the one before it by process_vm_readv. Returns the time in ticks.
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

    /// Returns the first pages to the kernel. The next access or pin faults in new ones.
    fn forget(&mut self, pages: usize) -> Result<()> {
        // SAFETY: private anonymous memory without references into it; it reads as zeroes afterwards.
        unsafe {
            self.memory
                .unchecked_advise_range(UncheckedAdvice::DontNeed, 0, pages * PAGE)?;
        }
        Ok(())
    }
}

/// Keeps this thread on one processor until dropped: another one has cold caches. The threads of tools stay free.
struct OneProcessor(CpuSet);

impl OneProcessor {
    fn stay() -> Result<Self> {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread)?;
        let mut one = CpuSet::new();
        one.set(sched_getcpu()?)?;
        sched_setaffinity(this_thread, &one)?;
        Ok(Self(before))
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        // The processors were allowed before.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// Frequency of the processor's clock, in ticks per nanosecond.
pub fn ticks_per_ns() -> f64 {
    let (start, ticks) = (Instant::now(), now());
    sleep(Duration::from_millis(200));
    (now() - ticks) as f64 / start.elapsed().as_nanos() as f64
}

/// The processor's clock. In a guest that counts instructions, a tick is one instruction and one nanosecond.
pub fn now() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { _rdtsc() }
}
