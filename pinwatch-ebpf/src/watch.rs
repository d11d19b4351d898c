//! Watches folios that a failed migration left behind, until nothing holds them any more.
//!
//! The failed migration claims an entry of `WATCHED`. A timer reads the folios of all entries. User space
//! enables it while there are any, so nothing runs when no migration fails.

use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use pinwatch_common::blocker::{Blocker, Hold};
use pinwatch_common::branchless::lowest;
use pinwatch_common::fold::fold_hold;
use pinwatch_common::hold::{
    HoldOutcome, HoldRecord, WATCH_LIMIT_NS, WATCH_SHARE, WATCHES, Watch, Watching,
};

use pinwatch_common::verifier_hint::opaque;

use crate::event;
use crate::kernel::{self, folio};
use crate::maps::{HOLD_WAKES, Shared, WATCHED, WATCHING, add_atomically, cells};
use crate::slot::Held;

const ENTRIES: usize = WATCHES as usize;

/// Begins to watch the folio with this entry in a list. `found` is the packed blocker, and from bit 16 on its
/// number.
///
/// A separate function without a result: the verifier then forgets which entry it claimed.
#[inline(never)]
pub fn begin(slot: Held, entry: u64, found: u64) {
    let owner = slot.owner();
    let mut hold = HoldRecord {
        pin_start_ns: slot.pin.start_ns,
        tid: owner as u32,
        tgid: (owner >> u32::BITS) as u32,
        blocker: found as u16,
        number: (found >> 16) as u8,
        outcome: HoldOutcome::NoRoom as u8,
        ns: 0,
        held_ns: 0,
        reserved: 0,
    };
    let kind = Blocker::unpack(found & 0xffff).hold;
    if kind == Hold::Gone as u8 {
        hold.outcome = HoldOutcome::Released as u8;
    } else if kind == Hold::Unclear as u8 {
        hold.outcome = HoldOutcome::Unclear as u8;
    } else if let (Some(entries), Some(watching)) =
        (WATCHED.get_ptr_mut(0), WATCHING.get_ptr_mut(0))
        && let Some(number) = claim(entries.cast(), watching)
    {
        let now = kernel::now();
        let folio = folio::of_entry(entry);
        // SAFETY: a live map value whose only claimant is this program. The timer leaves it alone until `folio` is set. The mask keeps
        // the index within the map value.
        let watch = unsafe { &mut *entries.cast::<Watch>().add(within(number)) };
        watch.identity = folio::identity(folio);
        watch.began_ns = now;
        watch.checked_ns = now;
        watch.hold = hold;
        // SAFETY: takes addresses within a live map value.
        let (newest_ns, taken) =
            unsafe { (&raw mut (*watching).newest_ns, &raw mut (*watching).taken) };
        // SAFETY: an aligned word of a live map value.
        unsafe { newest_ns.write_volatile(now) };
        add_atomically(taken, 1 << number);
        compiler_fence(Ordering::Release);
        // SAFETY: an aligned word of a live reference.
        unsafe { (&raw mut watch.folio).write_volatile(folio) };
        // If it is full, user space is awake.
        let _ = HOLD_WAKES.output::<u64>(&now, u64::from(BPF_RB_FORCE_WAKEUP));
        return;
    }
    finish(&hold);
}

/// An index within the map value. The verifier must see the mask, even where LLVM knows the bound.
#[inline(always)]
fn within(index: u64) -> usize {
    opaque(index as usize) & (ENTRIES - 1)
}

/// Claims a free entry, and returns its number. CPUs prefer different ones. `None` if there is none, or another CPU takes the same one
/// at this moment.
#[inline(always)]
fn claim(entries: *mut Watch, watching: *mut Watching) -> Option<u64> {
    let first = u64::from(kernel::cpu()) & (ENTRIES as u64 - 1);
    // SAFETY: an aligned word of a live map value.
    let taken = unsafe { (&raw mut (*watching).taken).read_volatile() };
    let free = !taken.rotate_right(first as u32);
    if free == 0 {
        return None;
    }
    let number = lowest(free).wrapping_add(first) & (ENTRIES as u64 - 1);
    // SAFETY: takes an address within the map value, in which the mask keeps the index.
    let claims = unsafe { &raw mut (*entries.add(within(number))).claims };
    add_atomically(claims, 1);
    // SAFETY: an aligned word of a live map value.
    if unsafe { claims.read_volatile() } != 1 {
        add_atomically(claims, u64::MAX);
        return None;
    }
    Some(number)
}

/// Looks at all folios that are watched. Called by a timer on one CPU.
#[inline(always)]
pub fn sample() {
    for n in 0..ENTRIES as u32 {
        check_watch(n);
    }
}

/// [`check`] as a global function: the verifier follows it once, not once for each folio. It must return an integer.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn check_watch(n: u32) -> u64 {
    check(n);
    0
}

/// Samples one folio if its next sample is due.
#[inline(always)]
fn check(n: u32) {
    let Some(watch) = WATCHED.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the mask keeps the index within the map value.
    let watch = unsafe { watch.cast::<Watch>().add(within(n.into())) };
    // SAFETY: an aligned word of a live map value.
    let folio = unsafe { (&raw mut (*watch).folio).read_volatile() };
    if folio == 0 {
        return;
    }
    // SAFETY: `folio` is written last, so the entry is complete, and only the timer writes it from now on.
    let watch = unsafe { &mut *watch };
    let now = kernel::now();
    let age = now.wrapping_sub(watch.began_ns);
    if now.wrapping_sub(watch.checked_ns) < age >> WATCH_SHARE {
        return;
    }
    watch.checked_ns = now;
    watch.hold.ns = age;
    watch.hold.outcome = match folio::watched(folio, &watch.identity) {
        folio::HELD if age >= WATCH_LIMIT_NS => HoldOutcome::CutOff as u8,
        folio::HELD => {
            watch.hold.held_ns = age;
            return;
        }
        folio::RELEASED => HoldOutcome::Released as u8,
        _ => HoldOutcome::Freed as u8,
    };
    finish(&watch.hold);
    // SAFETY: an aligned word of a live reference.
    unsafe { (&raw mut watch.folio).write_volatile(0) };
    compiler_fence(Ordering::Release);
    add_atomically(&raw mut watch.claims, u64::MAX);
    if let Some(watching) = WATCHING.get_ptr_mut(0) {
        let bit = 1_u64 << (n & (WATCHES - 1));
        // SAFETY: takes an address within the map value.
        add_atomically(unsafe { &raw mut (*watching).taken }, bit.wrapping_neg());
    }
}

/// Adds a hold to the statistics, and sends it to followers.
#[inline(never)]
fn finish(hold: &HoldRecord) {
    if let Some(cells) = cells() {
        fold_hold::<Shared>(&mut cells.holds, hold);
    }
    event::send_hold(hold);
}
