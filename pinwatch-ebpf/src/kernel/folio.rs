//! Folios and pages: what holds a folio that a failed migration left behind, and the place of a page.
//!
//! Everything is read without a lock. A count can be out of date by the time the next one is read.

use pinwatch_common::blocker::{Blocker, Hold, MAPPED_MAX, Memory};
use pinwatch_common::branchless::{bit, is_negative, lowest_of_six, select};
use pinwatch_common::place::{Place, UNKNOWN_PLACE};
use pinwatch_common::verifier_hint::opaque;

use super::config::PROGRAM_CONFIG;
use super::memory::{address_in, read, word};

macro_rules! layout {
    ($of:ident . $field:ident) => {
        // SAFETY: an aligned field of a static that nobody writes after loading.
        unsafe { (&raw const PROGRAM_CONFIG.$of.$field).read_volatile() }
    };
}

/// Address of the first entry that a folio can have in a list: that of page frame 0.
#[inline(always)]
pub fn first_entry() -> u64 {
    word(layout!(pageblock.vmemmap_at)).wrapping_add(layout!(folio.lru))
}

/// `GUP_PIN_COUNTING_BIAS`: references of one pin of a folio of one page.
const PIN_BIAS: i64 = 1024;

/// Address of the folio with this entry in a list.
#[inline(always)]
pub fn of_entry(entry: u64) -> u64 {
    entry.wrapping_sub(layout!(folio.lru))
}

/// What holds a folio, and its properties.
struct Look {
    flags: u64,
    mapping: u64,
    is_large: u64,
    is_anon: u64,
    is_hugetlb: u64,
    is_swapbacked: u64,
    /// Number of its mappings; 0 where it cannot be read.
    mapped: i64,
    references: i64,
    /// Bits in the order of [`Hold`].
    holds: u64,
}

impl Look {
    /// Looks at a folio. `own` is the number of its references that hold nothing.
    #[inline(always)]
    fn at(folio: u64, own: impl FnOnce(u64, u64) -> i64) -> Self {
        let flags = word(folio.wrapping_add(layout!(folio.flags)));
        let mapping = word(folio.wrapping_add(layout!(folio.mapping)));
        let flag = |number: u32| bit(flags >> (number & 63));
        let count = |offset: u64| i64::from(read::<i32>(folio.wrapping_add(offset)));
        let is_large = flag(layout!(folio.head));
        let is_hugetlb = is_large & is_hugetlb(folio);
        // The counts of mappings begin at -1. A folio of one page may have its type in their place.
        let counts_large = u64::from(layout!(folio.large_mapcount) != 0);
        let mapped = count(select(
            is_large,
            [layout!(folio.mapcount), layout!(folio.large_mapcount)],
        )) + 1;
        let is_counted = counts_large | is_large ^ 1;
        let mapped = select(is_negative(mapped) | is_counted ^ 1, [mapped as u64, 0]) as i64;
        // A pointer, with bits for anonymous memory and for movable operations.
        let is_anon = bit(mapping | mapping >> 1);
        let is_of_file = bit(mapping >> 63) & (is_anon ^ 1);
        let is_swapbacked = flag(layout!(folio.swapbacked));
        let is_cached = is_of_file | is_anon & is_swapbacked & flag(layout!(folio.swapcache));
        let has_private = is_of_file & flag(layout!(folio.private));
        let references = count(layout!(folio.refcount));
        let excess =
            references - own(flags, is_hugetlb) - mapped - is_cached as i64 - has_private as i64;
        let is_pinned = select(
            is_large,
            [
                is_negative(PIN_BIAS - 1 - excess),
                is_negative(-large_pins(folio)),
            ],
        );
        let is_unclear = is_large & (is_cached | counts_large ^ 1);
        let holds = is_pinned
            | flag(layout!(folio.writeback)) << 1
            | flag(layout!(folio.locked)) << 2
            | is_unclear << 3
            | is_negative(-excess) << 4
            | 1 << 5;
        Self {
            flags,
            mapping,
            is_large,
            is_anon,
            is_hugetlb,
            is_swapbacked,
            mapped,
            references,
            holds,
        }
    }
}

/// The folio with this entry in a list, packed. A separate function, called once per folio, and without
/// branches: see [`bit`].
#[inline(never)]
pub fn blocker(entry: u64) -> u64 {
    let folio = of_entry(entry);
    // One reference is that of the isolation.
    let look = Look::at(folio, |_, _| 1);
    let is_of_file = bit(look.mapping >> 63) & (look.is_anon ^ 1);
    let memories = look.is_hugetlb
        | look.is_large << 1
        | look.is_anon << 2
        | (is_of_file ^ 1) << 3
        | look.is_swapbacked << 4
        | 1 << 5;
    let many = look.mapped - i64::from(MAPPED_MAX);
    let blocker = Blocker {
        hold: Hold::Pinned as u8 + lowest_of_six(look.holds),
        memory: Memory::Hugetlb as u8 + lowest_of_six(memories),
        zone: zone(look.flags),
        pageblock: pageblock(folio),
        mapped: (select(is_negative(many), [0, many as u64]) as u8).wrapping_add(MAPPED_MAX),
    };
    blocker.pack()
}

/// Something still holds the folio.
pub const HELD: u64 = 0;
/// Nothing holds it any more.
pub const RELEASED: u64 = 1;

/// Mapping of a folio, and the word after it: its index, on all kernels. Another use of the memory has others.
#[inline(always)]
pub fn identity(folio: u64) -> [u64; 2] {
    read(folio.wrapping_add(layout!(folio.mapping)))
}

/// [`HELD`], [`RELEASED`], or another number if the folio was freed or is another one. A separate function
/// without branches, as [`blocker`].
#[inline(never)]
pub fn watched(folio: u64, known: &[u64; 2]) -> u64 {
    // A folio on no list has the reference of its isolation, or of a batch of pages on their way to a list. Those
    // of hugetlbfs have neither.
    let look = Look::at(folio, |flags, is_hugetlb| {
        let is_on_lru = bit(flags >> (layout!(folio.on_lru) & 63));
        ((is_on_lru | is_hugetlb) ^ 1) as i64
    });
    let [mapping, index] = identity(folio);
    let other = (mapping ^ known[0]) | (index ^ known[1]);
    let is_other = is_negative((other | other.wrapping_neg()) as i64);
    let is_free = is_negative(look.references - 1);
    let is_unclear = bit(look.holds >> 3);
    // Counts of references that cannot be compared do not count as a hold.
    let held = look.holds & 0b111 | bit(look.holds >> 4) & (is_unclear ^ 1);
    let released = is_negative(held as i64 - 1);
    released | (is_other | is_free) << 1
}

/// The last bytes of the address space, where no `struct page` is.
const ABOVE_PAGES: i64 = 1 << 24;

/// Head page of the page at this address.
///
/// The word of a tail page is 1 plus the address of its head page, or, from 7.1 on in kernels that save memory of
/// `struct page`s, 1 plus a mask for the page's own address. A mask of a folio of up to 1 GiB is no address of a page.
#[inline(always)]
pub fn head(page: u64) -> u64 {
    let info = word(page.wrapping_add(config!(compound_offset)));
    let is_tail = bit(info);
    let is_address = is_negative((info as i64).wrapping_add(ABOVE_PAGES));
    let of_tail = select(is_address, [page & info, info & !1]);
    select(is_tail, [page, of_tail])
}

/// Whether a folio lies in ZONE_MOVABLE or in a CMA pageblock, where a long-term pin may not leave it.
#[inline(always)]
pub fn must_move(folio: u64) -> bool {
    let flags = word(folio.wrapping_add(layout!(folio.flags)));
    let other_zone = u32::from(zone(flags)) ^ config!(zone_movable);
    let other_block = u32::from(pageblock(folio)) ^ config!(pageblock_cma);
    let is_zero = |number: u32| is_negative(i64::from(number) - 1);
    opaque((is_zero(other_zone) | is_zero(other_block)) as usize) != 0
}

/// Number of pins of a folio. A kernel that does not count those of a large folio adds to its references instead.
#[inline(always)]
pub fn pins(folio: u64) -> i64 {
    let flags = word(folio.wrapping_add(layout!(folio.flags)));
    let is_large = bit(flags >> (layout!(folio.head) & 63));
    let references = i64::from(read::<i32>(folio.wrapping_add(layout!(folio.refcount))));
    let of_small = references >> PIN_BIAS.trailing_zeros();
    let of_large = if layout!(folio.pincount) == 0 {
        of_small
    } else {
        large_pins(folio)
    };
    select(is_large, [of_small as u64, of_large as u64]) as i64
}

/// Pins of a large folio; 0 if the kernel does not count them.
#[inline(always)]
fn large_pins(folio: u64) -> i64 {
    match layout!(folio.pincount) {
        0 => 0,
        offset => read::<i32>(folio.wrapping_add(offset)).into(),
    }
}

/// 1 for a large folio of hugetlbfs, else 0.
#[inline(always)]
fn is_hugetlb(folio: u64) -> u64 {
    let mask = layout!(folio.hugetlb_mask);
    if mask == 0 {
        return 0;
    }
    let kind: u32 = read(folio.wrapping_add(layout!(folio.hugetlb)));
    let other = i64::from(kind & mask ^ layout!(folio.hugetlb_value));
    is_negative(other - 1)
}

/// Packed place of one random page or folio of an array; 0 if it cannot be read.
///
/// `pages` returns the array's address and length; `random` selects the entry. `pages` may read
/// memory, so under lockdown the verifier must see that it is not called.
#[inline(always)]
pub fn sample_place(pages: impl FnOnce() -> (u64, u64), random: u64) -> u8 {
    if config!(zone_mask) == 0 {
        return 0;
    }
    let (array, count) = pages();
    if count == 0 {
        return 0;
    }
    // An entry that cannot be read is the address of no page.
    place(address_in(array, (random % count) as u32)) as u8
}

/// Packed place of the page at this address; 0 if it cannot be read. A separate function: few pins get here.
#[inline(never)]
pub fn place(page: u64) -> u64 {
    if page == 0 {
        return 0;
    }
    let flags = word(page.wrapping_add(config!(page_flags_offset)));
    let place = Place {
        zone: zone(flags),
        pageblock: pageblock(page),
    };
    place.pack().into()
}

/// Zone of a page with these flags.
#[inline(always)]
fn zone(flags: u64) -> u8 {
    match config!(zone_mask) {
        0 => UNKNOWN_PLACE,
        mask => (flags >> (config!(zone_shift) & 63)) as u8 & mask as u8,
    }
}

/// Type of the pageblock that the page at this address is in.
#[inline(always)]
fn pageblock(page: u64) -> u8 {
    if layout!(pageblock.vmemmap_at) == 0 {
        return UNKNOWN_PLACE;
    }
    let memmap = word(layout!(pageblock.vmemmap_at));
    let frame = page.wrapping_sub(memmap) / layout!(pageblock.page_size);
    let section_order = layout!(pageblock.section_order) & 63;
    let number = frame >> section_order;
    let per_root = layout!(pageblock.sections_per_root);
    let roots = word(layout!(pageblock.roots_at));
    let root = word(roots.wrapping_add(number / per_root * size_of::<u64>() as u64));
    let section = root.wrapping_add(number % per_root * layout!(pageblock.section_size));
    let usage = word(section.wrapping_add(layout!(pageblock.usage)));
    let block = (frame & ((1 << section_order) - 1)) >> (layout!(pageblock.order) & 63);
    let first = block * u64::from(layout!(pageblock.bits));
    let bits_at = usage.wrapping_add(layout!(pageblock.flags) + first / 64 * 8);
    let kind = (word(bits_at) >> (first & 63)) as u8 & 7;
    // Addresses of the kernel have the highest bit. Without one of them nothing was read.
    let is_read = bit((memmap & roots & root & usage) >> 63);
    kind | UNKNOWN_PLACE & (is_read as u8).wrapping_sub(1)
}
