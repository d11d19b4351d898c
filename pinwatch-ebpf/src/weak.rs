//! Weak pins: who holds a folio that is in the way of a migration.
//!
//! A hash map has the folios of weak pins that lie where a long-term pin may not leave them. A release does not show
//! whose pin it ends, so a folio leaves the map when nobody pins it any more. If a pin of another kind overlaps the end
//! of a weak pin, the weak pin seems to last until that ends. This measurement is off by default, so other pins pay
//! nothing for it.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::bpf_loop;
use pinwatch_common::branchless::mask_if_zero;
use pinwatch_common::fold::{fold_weak_held, fold_weak_pin};
use pinwatch_common::loss::Loss;
use pinwatch_common::record::{Origin, Pin};
use pinwatch_common::weak::{Blocked, HOLDERS, Holder, WEAK_PAGES};

use crate::kernel::memory::address_in;
use crate::kernel::{self, Thread, folio};
use crate::maps::{HELD, Shared, WEAK, WEAK_CALLS, WeakCall, WeakFolio, cells, lose};

/// Begins a call that makes a weak pin, for [`exit`].
#[inline(always)]
pub fn enter(frame: u64, pages: u64) {
    let call = WeakCall { frame, pages };
    if WEAK_CALLS.insert(kernel::tid(), call, 0).is_err() {
        lose(Loss::WeakUnmatched);
    }
}

/// Ends a call in a kretprobe.
#[inline(always)]
pub fn exit(frame: u64, returned: i64) {
    let tid = kernel::tid();
    // SAFETY: a live map value that only this thread uses.
    let Some(call) = (unsafe { WEAK_CALLS.get(tid) }) else {
        return;
    };
    if call.frame == frame {
        let pages = call.pages;
        let _ = WEAK_CALLS.remove(tid);
        pinned::<true>(pages, returned);
    }
}

/// Remembers the folios of a weak pin that returned `count` pages or `-errno`. Without `ANY_ORIGIN` a call that no
/// known interface makes, such as an O_DIRECT read, is left out.
#[inline(never)]
pub fn pinned<const ANY_ORIGIN: bool>(pages: u64, count: i64) {
    if count <= 0 {
        return;
    }
    let origin = kernel::origin::<true>();
    if !ANY_ORIGIN && origin == Origin::Other as u8 {
        return;
    }
    let Thread(owner) = Thread::running();
    let [first, second] = kernel::comm();
    let mut comm = [0; 16];
    // SAFETY: 16 bytes of a live array.
    unsafe {
        let words = comm.as_mut_ptr().cast::<u64>();
        words.write_unaligned(first);
        words.add(1).write_unaligned(second);
    }
    let holder = Holder {
        start_ns: kernel::now(),
        held_ns: 0,
        tid: owner as u32,
        tgid: (owner >> u32::BITS) as u32,
        comm,
        origin,
        reserved: [0; 7],
    };
    let mut call = Pinned {
        pages,
        weak: WeakFolio {
            holder,
            is_first: 1,
            blocks: 0,
        },
        seen: 0,
    };
    each_page(count as u64, remember, &raw mut call);
    if call.seen != 0
        && let Some(cells) = cells()
    {
        fold_weak_pin::<Shared>(&mut cells.weak, origin);
        if count as u64 > u64::from(WEAK_PAGES) {
            lose(Loss::WeakFull);
        }
    }
}

/// Context of [`remember`].
struct Pinned {
    /// Array of addresses of pages.
    pages: u64,
    weak: WeakFolio,
    /// 1 once a folio must not stay where it is.
    seen: u64,
}

/// A function that `bpf_loop` calls with the number of a page and a context. It returns 1 to end the loop.
type Look<T> = unsafe extern "C" fn(u64, *mut T) -> u64;

/// Calls a function for each page of an array of `count`. The verifier sees the function once, not once per page.
#[inline(always)]
fn each_page<T>(count: u64, look: Look<T>, context: *mut T) {
    let many = count > u64::from(WEAK_PAGES);
    let count = if many { WEAK_PAGES } else { count as u32 };
    // SAFETY: the callback has the parameters that the helper passes, and the context outlives the call.
    unsafe { bpf_loop(count, look as *mut c_void, context.cast(), 0) };
}

/// Remembers the folio of a page that must not stay where it is.
unsafe extern "C" fn remember(number: u64, call: *mut Pinned) -> u64 {
    // SAFETY: `pinned` passes its own variable.
    let Pinned { pages, weak, seen } = unsafe { &mut *call };
    let folio = folio::head(address_in(*pages, number as u32));
    if !folio::must_move(folio) {
        return 0;
    }
    *seen = 1;
    // SAFETY: a live map value, of which integers are read.
    if let Some(known) = unsafe { WEAK.get(folio) } {
        if known.holder.start_ns == weak.holder.start_ns {
            return 0;
        }
        // With a single pin, the release of the known one was not seen.
        if folio::pins(folio) > 1 {
            lose(Loss::WeakShared);
            return 0;
        }
    }
    if WEAK.insert(folio, &*weak, 0).is_err() {
        lose(Loss::WeakFull);
        return 0;
    }
    weak.is_first = 0;
    0
}

/// Forgets the folios of released pages that are not pinned any more.
#[inline(never)]
pub fn released(mut pages: u64, count: u64) {
    each_page(count, forget_one, &raw mut pages);
}

unsafe extern "C" fn forget_one(number: u64, pages: *mut u64) -> u64 {
    // SAFETY: `released` passes its own variable.
    forget(address_in(unsafe { *pages }, number as u32))
}

/// Forgets the folio of a page if it is not pinned any more.
#[inline(never)]
pub fn forget(page: u64) -> u64 {
    let folio = folio::head(page);
    let Some(weak) = WEAK.get_ptr_mut(folio) else {
        return 0;
    };
    // SAFETY: a live map value.
    let WeakFolio {
        holder,
        is_first,
        blocks,
    } = unsafe { weak.read() };
    if folio::pins(folio) > 0 {
        return 0;
    }
    let now = kernel::now();
    if blocks != 0
        && let Some(held) = HELD.get_ptr_mut(blocks - 1)
    {
        // SAFETY: aligned words of a live map value.
        unsafe {
            if (*held).folio == folio && (*held).holder.start_ns == holder.start_ns {
                (&raw mut (*held).ended_ns).write_volatile(now);
            }
        }
    }
    let _ = WEAK.remove(folio);
    if is_first != 0
        && let Some(cells) = cells()
    {
        fold_weak_held::<Shared>(&mut cells.weak, now.wrapping_sub(holder.start_ns));
    }
    0
}

/// Notes the holder of a blocker of the running thread's pin, which entered at `pin_ns`. The first known one of a
/// pin stays.
#[inline(never)]
pub fn note_blocker(folio: u64, pin_ns: u64) -> u64 {
    let Thread(owner) = Thread::running();
    let at = owner as u32 % HOLDERS;
    let (Some(weak), Some(held)) = (WEAK.get_ptr_mut(folio), HELD.get_ptr_mut(at)) else {
        return 0;
    };
    // SAFETY: live map values, of which integers are read and written.
    unsafe {
        if ((*held).pin_ns == pin_ns && (*held).owner == owner) || folio::pins(folio) < 1 {
            return 0;
        }
        let mut holder = (*weak).holder;
        holder.held_ns = kernel::now().wrapping_sub(holder.start_ns);
        held.write(Blocked {
            holder,
            ended_ns: 0,
            owner,
            pin_ns,
            folio,
        });
        (*weak).blocks = at + 1;
    }
    0
}

/// Writes the holder of one of the pin's blockers, or zeroes without one.
#[inline(always)]
pub fn write_holder(to: *mut u64, pin: &Pin) {
    let mut words = [0; HOLDER_WORDS];
    if kernel::watches_weak_pins()
        && let Some(held) = HELD.get_ptr_mut(pin.tid % HOLDERS)
    {
        // SAFETY: live map values, of which integers are read. Without a branch, since the verifier would follow
        // both sides.
        unsafe {
            let other = (*held).pin_ns ^ pin.start_ns | u64::from((*held).owner as u32 ^ pin.tid);
            let mask = mask_if_zero(other);
            let from = (&raw const (*held).holder).cast::<u64>();
            words[0] = from.read_volatile() & mask;
            words[1] = from.add(1).read_volatile() & mask;
            words[2] = from.add(2).read_volatile() & mask;
            words[3] = from.add(3).read_volatile() & mask;
            words[4] = from.add(4).read_volatile() & mask;
            words[5] = from.add(5).read_volatile() & mask;
        }
    }
    // SAFETY: callers pass the address of a `Holder`.
    unsafe {
        to.write_volatile(words[0]);
        to.add(1).write_volatile(words[1]);
        to.add(2).write_volatile(words[2]);
        to.add(3).write_volatile(words[3]);
        to.add(4).write_volatile(words[4]);
        to.add(5).write_volatile(words[5]);
    }
}

const HOLDER_WORDS: usize = 6;
const _: () = assert!(size_of::<Holder>() == HOLDER_WORDS * size_of::<u64>());
