//! Weak pins: who holds a folio that is in the way of a migration.
//!
//! A hash map has the folios of weak pins that lie where a long-term pin may not leave them. A folio leaves the map at the
//! release after which it is not pinned any more, whoever releases it. So pins of other kinds neither end a weak pin
//! nor begin one. This measurement is off by default, so other pins pay nothing for it.

use pinwatch_common::fold::{fold_weak_held, fold_weak_pin};
use pinwatch_common::loss::Loss;
use pinwatch_common::record::{Origin, Pin};
use pinwatch_common::weak::{Blocked, HOLDERS, Holder, WEAK_PAGES, weak_page};

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
    let mut weak = WeakFolio {
        holder,
        is_first: 1,
        blocks: 0,
    };
    let mut seen = 0;
    each_page(pages, count as u64, |page| {
        seen |= remember(page, &mut weak);
    });
    if seen != 0
        && let Some(cells) = cells()
    {
        fold_weak_pin::<Shared>(&mut cells.weak, origin);
    }
}

/// Calls a function with the pages that are looked at, of an array of `count`.
#[inline(always)]
fn each_page(pages: u64, count: u64, mut look: impl FnMut(u64)) {
    let count = if count > u64::from(u32::MAX) {
        u32::MAX
    } else {
        count as u32
    };
    let mut number = 0;
    while number < WEAK_PAGES {
        let index = weak_page(number, count);
        if index >= count {
            break;
        }
        look(folio::address_in(pages, index));
        number += 1;
    }
}

/// Remembers the folio of a page that must not stay where it is. Returns 1 if it is one, else 0.
#[inline(never)]
fn remember(page: u64, weak: &mut WeakFolio) -> u64 {
    let folio = folio::head(page);
    if !folio::must_move(folio) {
        return 0;
    }
    // SAFETY: a live map value, of which integers are read.
    if let Some(known) = unsafe { WEAK.get(folio) } {
        if known.holder.start_ns == weak.holder.start_ns {
            return 1;
        }
        // With a single pin, the release of the known one was not seen.
        if folio::pins(folio) > 1 {
            lose(Loss::WeakShared);
            return 1;
        }
    }
    if WEAK.insert(folio, &*weak, 0).is_err() {
        lose(Loss::WeakFull);
        return 1;
    }
    weak.is_first = 0;
    1
}

/// Forgets the folios of released pages that are not pinned any more.
#[inline(never)]
pub fn released(pages: u64, count: u64) {
    each_page(pages, count, |page| {
        forget(page);
    });
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
            let mask = folio::mask_if_zero(other);
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
