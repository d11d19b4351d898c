//! Maps and the global event filter: bounds, and the reason for the kind of each map.
//!
//! `SLOTS` and `CELLS` are plain arrays that user space maps into its memory. The JIT inlines
//! look-ups in them on every supported kernel (in per-CPU arrays only from 6.10 on). A reader needs no
//! bpf(2) call, during which the kernel would skip kprobe programs on its CPU (`bpf_prog_active`).

use core::arch::asm;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, RingBuf};
use pinwatch_common::abi::ABI_VERSION;
use pinwatch_common::cells::{Add, CpuCells};
use pinwatch_common::event_filter::Listening;
use pinwatch_common::hold::{WATCHES, Watch, Watching};
use pinwatch_common::limits::{RING_BYTES, SLOT_SETS, SLOT_WAYS};
use pinwatch_common::loss::{Loss, PROBES};
use pinwatch_common::record::{Call, Slot, StackSample};
use pinwatch_common::weak::{Blocked, HOLDERS, Holder};

use crate::kernel;

/// Pins in flight, 1 MiB: see [`crate::slot`]. An entry is a set of slots, so that one look-up finds
/// every slot that a thread may use.
#[map]
pub static SLOTS: Array<[Slot; SLOT_WAYS]> = Array::with_max_entries(SLOT_SETS, BPF_F_MMAPABLE);

/// Statistics, one entry per possible CPU. User space sets the number of entries.
#[map]
pub static CELLS: Array<CpuCells> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Calls of GUP-fast in flight, by thread id: see [`crate::gup_fast`]. User space sets the
/// number of entries if that measurement is on.
#[map]
pub static FAST: HashMap<u32, FastCall> = HashMap::with_max_entries(1, 0);

/// Call of GUP-fast in flight.
#[repr(C)]
pub struct FastCall {
    pub call: Call,
    /// Bits of [`crate::gup_fast`].
    pub seen: u64,
}

/// Folios of weak pins, by the address of the folio: see [`crate::weak`]. User space sets the number of entries
/// if that measurement is on.
#[map]
pub static WEAK: HashMap<u64, WeakFolio> = HashMap::with_max_entries(1, 0);

/// Folio of a weak pin.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WeakFolio {
    pub holder: Holder,
    /// 1 for the folio whose release ends the weak pin.
    pub is_first: u32,
    /// 1 + index in [`HELD`] of the last pin that it was in the way of; 0 without one.
    pub blocks: u32,
}

/// Calls in flight that make weak pins, by thread id. Only for kretprobes, which see no arguments.
#[map]
pub static WEAK_CALLS: HashMap<u32, WeakCall> = HashMap::with_max_entries(1, 0);

/// Call that makes a weak pin.
#[repr(C)]
pub struct WeakCall {
    /// Stack address of the call.
    pub frame: u64,
    /// Array of pages.
    pub pages: u64,
}

/// Holders of weak pins that were in the way of a pin, by the pin's thread id modulo the number of entries.
#[map]
pub static HELD: Array<Blocked> = Array::with_max_entries(HOLDERS, BPF_F_MMAPABLE);

/// Number of runs of each kprobe program, one entry per possible CPU. Used where the kernel preempts
/// BPF programs; user space sets the number of entries.
#[map]
pub static RUNS: Array<[u64; PROBES.len()]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Kernel stack that user space asked for last, 528 bytes.
#[map]
pub static STACK: Array<StackSample> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Id of the thread whose stack is wanted, 0 for none. Written by user space.
#[map]
pub static STACK_OF: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Ring buffer of events: one per pin that returned, and one per retry, as the followers' filters
/// select.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Folios that are watched after a failed migration, 6 KiB: see [`crate::watch`]. User space does not map it.
#[map]
pub static WATCHED: Array<[Watch; WATCHES as usize]> = Array::with_max_entries(1, 0);

/// Number of folios in `WATCHED`, for user space.
#[map]
pub static WATCHING: Array<Watching> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Wakes user space when a folio begins to be watched, so that it enables the timer.
#[map]
pub static HOLD_WAKES: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Union of the followers' filters, written by user space. The only mutable global, so that `.bss`
/// contains nothing else.
#[unsafe(no_mangle)]
static mut LISTENING: Listening = Listening::NOBODY;

#[used]
#[unsafe(no_mangle)]
static PINWATCH_ABI_12: u32 = ABI_VERSION;

/// Whether a follower is connected.
#[inline(always)]
pub fn has_followers() -> bool {
    // SAFETY: an aligned u32 that only user space writes.
    unsafe { (&raw const LISTENING.listeners).read_volatile() != 0 }
}

/// Copy of the followers' filter.
///
/// Can mix an old and a new filter while user space writes it: user space filters each event again.
#[inline(always)]
pub fn event_filter() -> Listening {
    // SAFETY: integers that only user space writes; any mixture of them is valid.
    unsafe { (&raw const LISTENING).read_volatile() }
}

/// Atomic addition, for cells to which other programs may add at the same time.
///
/// It is written as the instruction. `core` has no atomic addition for this target, and LLVM may turn
/// the intrinsic into one that fetches, which needs 5.12.
pub struct Shared;

impl Add for Shared {
    #[inline(always)]
    fn add(cell: &mut u64, n: u64) {
        add_atomically(cell, n);
    }
}

/// Adds `n` to an aligned u64 in a map, as [`Shared`] does.
#[inline(always)]
pub fn add_atomically(cell: *mut u64, n: u64) {
    // SAFETY: `BPF_ATOMIC | BPF_ADD` on an aligned u64 of a live map value, as all callers pass.
    unsafe {
        asm!("lock *(u64 *)({cell} + 0) += {n}", cell = in(reg) cell, n = in(reg) n);
    }
}

/// This CPU's cells; `None` beyond the map's entries. Write them through [`Add`] only.
///
/// Use [`Shared`] where the kernel can preempt programs and another one may add to the same cells.
#[inline(always)]
pub fn cells() -> Option<&'static mut CpuCells> {
    let cells = CELLS.get_ptr_mut(kernel::cpu())?;
    // SAFETY: the entry of the running CPU, from which a program cannot migrate. Where programs
    // preempt each other, several such references exist. There the memory is accessed only by atomic
    // instructions that are opaque to the compiler. The exceptions are the gaps between
    // samples, for which any value is valid.
    Some(unsafe { &mut *cells })
}

/// Counts a loss in this CPU's cells.
#[inline(always)]
pub fn lose(loss: Loss) {
    if let Some(cells) = cells() {
        add_atomically(&mut cells.losses[loss as usize], 1);
    }
}

/// Counts a run of the kprobe program with this index in [`PROBES`], where the kernel may skip runs.
///
/// Kprobe programs run with preemption disabled, so this CPU's counters have one writer at a time.
#[inline(always)]
pub fn count_run(probe: usize) {
    if kernel::preempts()
        && let Some(runs) = RUNS.get_ptr_mut(kernel::cpu())
    {
        // SAFETY: an aligned u64 of a live map value; callers pass a constant within `PROBES`.
        unsafe {
            let runs = runs.cast::<u64>().add(probe);
            runs.write(runs.read().wrapping_add(1));
        }
    }
}
