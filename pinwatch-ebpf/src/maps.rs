//! Every map, its bound, and why it is that kind.
//!
//! `SLOTS` and `CELLS` are plain arrays that user space maps into its memory:
//! look-ups are inlined by the JIT on every supported kernel (those of per-CPU
//! arrays only from 6.10 on), and a reader makes no bpf(2) call, which would
//! make kprobe programs on its CPU be skipped (`bpf_prog_active`).

use core::arch::asm;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, RingBuf};
use pinwatch_common::counter::{Loss, PROBES};
use pinwatch_common::fold::{Add, CpuCells};
use pinwatch_common::listen::Listening;
use pinwatch_common::params::{ABI_VERSION, RING_BYTES, SLOT_SETS, SLOT_WAYS};
use pinwatch_common::record::{Call, Slot, StackSample};

use crate::kernel;

/// Pins in flight, 1 MiB: see [`crate::slot`]. An entry is a set of slots, so
/// that one look-up finds a thread's slot or tells that it has none.
#[map]
pub static SLOTS: Array<[Slot; SLOT_WAYS]> = Array::with_max_entries(SLOT_SETS, BPF_F_MMAPABLE);

/// Statistics, one entry per possible CPU: user space sets the number.
#[map]
pub static CELLS: Array<CpuCells> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Long-term calls of GUP-fast, by thread id: see [`crate::fast`]. User space
/// sets the number of entries, where that measurement is asked for.
#[map]
pub static FAST: HashMap<u32, FastCall> = HashMap::with_max_entries(1, 0);

/// A long-term call of GUP-fast in flight.
#[repr(C)]
pub struct FastCall {
    pub call: Call,
    /// Bits: see [`crate::fast`].
    pub met: u64,
}

/// Runs of the programs at kprobes, one entry per possible CPU where the kernel preempts: user space
/// sets the number.
#[map]
pub static RUNS: Array<[u64; PROBES.len()]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The kernel stack that was asked for last, 528 bytes.
#[map]
pub static STACK: Array<StackSample> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The thread whose stack it is: written by user space, 0 for none.
#[map]
pub static STACK_OF: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One event per ended pin that a listener wants.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// What listeners want, written by user space. The only mutable global, so that
/// `.bss` is this and nothing else.
#[unsafe(no_mangle)]
static mut LISTENING: Listening = Listening::NOBODY;

#[used]
#[unsafe(no_mangle)]
static PINWATCH_ABI_6: u32 = ABI_VERSION;

/// Whether anybody wants events.
#[inline(always)]
pub fn listened_to() -> bool {
    // SAFETY: an aligned u32 that only user space writes.
    unsafe { (&raw const LISTENING.listeners).read_volatile() != 0 }
}

/// Which events. A change may be seen halfway: user space looks at each event again.
#[inline(always)]
pub fn listening() -> Listening {
    // SAFETY: integers that only user space writes; any mixture of them is valid.
    unsafe { (&raw const LISTENING).read_volatile() }
}

/// Adds where other programs may add meanwhile, without fetching: that needs 5.12. Spelled as the
/// instruction: the target has no atomic additions in `core`, and of the intrinsic LLVM makes a
/// fetching one now and then.
pub struct Shared;

impl Add for Shared {
    #[inline(always)]
    fn add(cell: &mut u64, n: u64) {
        add_atomically(cell, n);
    }
}

/// As [`Shared`] does it.
#[inline(always)]
pub fn add_atomically(cell: *mut u64, n: u64) {
    // SAFETY: `BPF_ATOMIC | BPF_ADD` on an aligned u64 of a live map value.
    unsafe {
        asm!("lock *(u64 *)({cell} + 0) += {n}", cell = in(reg) cell, n = in(reg) n);
    }
}

/// This CPU's cells, to be written by [`Add`] alone: by [`Shared`] where the kernel can preempt
/// programs, and another of them may add to the same cells meanwhile.
#[inline(always)]
pub fn cells() -> Option<&'static mut CpuCells> {
    let cells = CELLS.get_ptr_mut(kernel::cpu())?;
    // SAFETY: the entry of the CPU that runs this, from which a program cannot migrate. Where
    // programs preempt each other several of these references exist, but memory behind them is
    // touched only by atomic instructions that the compiler does not see into. `zone_gap` is the
    // exception, of which any value will do.
    Some(unsafe { &mut *cells })
}

/// Counts a loss on this CPU.
#[inline(always)]
pub fn lose(loss: Loss) {
    if let Some(cells) = cells() {
        add_atomically(&mut cells.losses[loss as usize], 1);
    }
}

/// Counts a run of a program at a kprobe, where the kernel may skip others. Such programs run with
/// preemption disabled, so nobody else writes this CPU's counters meanwhile.
#[inline(always)]
pub fn ran(probe: usize) {
    if kernel::preempts()
        && let Some(runs) = RUNS.get_ptr_mut(kernel::cpu())
    {
        // SAFETY: an aligned u64 of a live map value: callers give a constant that is in bounds.
        unsafe {
            let runs = runs.cast::<u64>().add(probe);
            runs.write(runs.read().wrapping_add(1));
        }
    }
}
