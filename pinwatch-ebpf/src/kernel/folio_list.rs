//! Finds the list of folios that a migration receives, where no argument of a hooked function shows it.
//!
//! In this path a caller of `migrate_pages` has the head of the list on its stack (`movable_folio_list`). So the programs look for
//! it there: two words that lead to `struct page`s, of which the first leads back. Nothing is added to a pin that succeeds.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::programs::RawTracePointContext;
use pinwatch_common::branchless::{is_negative, mask_if_zero, select};

use super::folio::first_entry;
use super::memory::{next_entry, previous_entry, read_into};

/// Words of the stack that are read at once, within the 512 bytes that a program has for its own.
const WORDS: usize = 16;
/// Words further away than these are not looked at. On Debian's kernels the head is 10 to 49 words away.
const BLOCKS: usize = 8;
const _: () = assert!(BLOCKS * WORDS <= u8::MAX as usize);

const WORD: u64 = size_of::<u64>() as u64;
/// Base-2 logarithm of the part of the address space that the kernel keeps for `struct page`s, with page tables of four levels.
const PAGES_ORDER: u32 = 40;
/// Places that are remembered until one turns out to be a list's head.
const PLACES: u32 = 8;

/// An address of the running thread's stack, below the frames of the hooked function: that of a raw tracepoint's arguments.
///
/// The verifier allows no arithmetic with the address of a context, and forgets what a value is once a helper has copied it.
#[inline(always)]
pub fn stack_at(ctx: &RawTracePointContext) -> u64 {
    let context = ctx.as_ptr();
    *read_into(&mut MaybeUninit::uninit(), (&raw const context) as u64)
}

/// Address of the first list of folios with entries, from an address of this thread's stack on; 0 if there is none.
///
/// Reads only the stack and `struct page`s: a stale word of the stack can be the address of a device's registers. A separate function
/// without branches, as [`blocker`](super::folio::blocker).
#[inline(never)]
pub fn find(stack: u64) -> u64 {
    let first = first_entry();
    let leads_to_page =
        |word: u64| is_negative((word.wrapping_sub(first) >> PAGES_ORDER) as i64 - 1);
    // Numbers of words, one in each byte, the nearest in the lowest.
    let mut places = 0;
    for block in (0..BLOCKS).rev() {
        // With the first word of the next block: a head has two.
        let mut words = MaybeUninit::<[u64; WORDS + 1]>::uninit();
        let words = read_into(
            &mut words,
            stack.wrapping_add((block * WORDS) as u64 * WORD),
        );
        let mut next_leads = leads_to_page(words[WORDS]);
        for n in (0..WORDS).rev() {
            let leads = leads_to_page(words[n]);
            let place = (block * WORDS + n + 1) as u64;
            places = select(leads & next_leads, [places, places << 8 | place]);
            next_leads = leads;
        }
    }
    let mut head = 0;
    for n in (0..PLACES).rev() {
        let place = places >> (n * 8) & 0xff;
        let candidate = stack.wrapping_add(place.wrapping_sub(1).wrapping_mul(WORD));
        let entry = next_entry(candidate);
        let leads_back = (previous_entry(entry) ^ candidate) | u64::from(place == 0);
        let is_head = mask_if_zero(leads_back) & 1;
        head = select(is_head, [head, candidate]);
    }
    head
}
