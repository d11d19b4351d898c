//! Where the properties of a folio and the type of its pageblock are, from BTF.
#![forbid(unsafe_code)]

use pinwatch_common::place::PLACES;
use pinwatch_common::program_config::{FolioLayout, PageblockLayout};

use super::btf::SIZE;
use super::facts::Facts;

/// Enum constant and label value of each type of pageblock.
const TYPES: [(&str, &str); 6] = [
    ("MIGRATE_UNMOVABLE", "unmovable"),
    ("MIGRATE_MOVABLE", "movable"),
    ("MIGRATE_RECLAIMABLE", "reclaimable"),
    ("MIGRATE_HIGHATOMIC", "highatomic"),
    ("MIGRATE_CMA", "cma"),
    ("MIGRATE_ISOLATE", "isolate"),
];

/// Enum constants that this module looks up.
pub const CONSTANTS: [&str; 17] = [
    TYPES[0].0,
    TYPES[1].0,
    TYPES[2].0,
    TYPES[3].0,
    TYPES[4].0,
    TYPES[5].0,
    "PG_locked",
    "PG_writeback",
    "PG_head",
    "PG_swapbacked",
    "PG_swapcache",
    "PG_private",
    "PG_lru",
    "PGTY_hugetlb",
    "HUGETLB_PAGE_DTOR",
    "NR_PAGEBLOCK_BITS",
    "__NR_PAGEBLOCK_BITS",
];

/// Struct members that this module looks up. [`SIZE`] stands for the struct itself.
pub const MEMBERS: [(&str, &str); 18] = [
    ("page", SIZE),
    ("page", "lru"),
    ("page", "mapping"),
    ("page", "_refcount"),
    ("page", "_mapcount"),
    ("page", "page_type"),
    ("page", "compound_dtor"),
    ("page", "hpage_pinned_refcount"),
    ("page", "compound_pincount"),
    ("folio", "_large_mapcount"),
    ("folio", "_pincount"),
    ("folio", "_folio_dtor"),
    ("mem_section", SIZE),
    ("mem_section", "usage"),
    ("mem_section_usage", "pageblock_flags"),
    ("list_head", "next"),
    ("page", "compound_head"),
    ("page", "compound_info"),
];

/// Variables whose addresses the programs need for pageblocks.
pub const VARIABLES: [&str; 2] = ["vmemmap_base", "mem_section"];

/// Where the properties of a folio are. The error is the name of the fact that is missing.
pub fn folio_layout(facts: &Facts) -> Result<FolioLayout, &'static str> {
    let member = |name: &'static str| facts.members.get(name).copied().ok_or(name);
    let flag = |name: &'static str| match facts.constants.get(name) {
        Some(bit) if *bit < u64::BITS.into() => Ok(*bit as u32),
        _ => Err(name),
    };
    let (hugetlb, hugetlb_mask, hugetlb_value) = hugetlb(facts).unwrap_or_default();
    if member("list_head.next")? != 0 {
        return Err("list_head.next");
    }
    Ok(FolioLayout {
        flags: member("page.flags")?,
        lru: member("page.lru")?,
        mapping: member("page.mapping")?,
        refcount: member("page._refcount")?,
        mapcount: member("page._mapcount")?,
        large_mapcount: member("folio._large_mapcount").unwrap_or_default(),
        pincount: pincount(facts).unwrap_or_default(),
        hugetlb,
        locked: flag("PG_locked")?,
        writeback: flag("PG_writeback")?,
        head: flag("PG_head")?,
        swapbacked: flag("PG_swapbacked")?,
        swapcache: flag("PG_swapcache")?,
        private: flag("PG_private")?,
        hugetlb_mask,
        hugetlb_value,
        on_lru: flag("PG_lru").unwrap_or_default(),
        watches: unwatched(facts).is_none().into(),
    })
}

/// Reason why folios cannot be watched after a failed migration; `None` if they can.
pub fn unwatched(facts: &Facts) -> Option<String> {
    if !facts.constants.contains_key("PG_lru") {
        return Some("PG_lru is unknown".to_owned());
    }
    facts.no_perf_events.clone()
}

/// Offset of the pins of a large folio. They are in its first `struct page`s.
fn pincount(facts: &Facts) -> Option<u64> {
    let page = facts.members.get("page.sizeof")?;
    let in_page = |member: &str, number: u64| {
        let offset = facts.members.get(member)?;
        Some(offset + number * page)
    };
    in_page("folio._pincount", 0)
        // 5.18 to 6.0.
        .or_else(|| in_page("page.compound_pincount", 1))
        // Up to 5.17.
        .or_else(|| in_page("page.hpage_pinned_refcount", 2))
}

/// Offset, mask and value of the 32 bits that identify a folio of hugetlbfs.
fn hugetlb(facts: &Facts) -> Option<(u64, u32, u32)> {
    let constant = |name: &str| facts.constants.get(name).map(|value| *value as u32);
    let member = |name: &str| facts.members.get(name).copied();
    // The type of the first page, in its highest byte (6.12).
    if let (Some(kind), Some(offset)) = (constant("PGTY_hugetlb"), member("page.page_type")) {
        return Some((offset, 0xff << 24, kind << 24));
    }
    // The destructor, a byte in the second page (up to 6.5).
    let destructor = constant("HUGETLB_PAGE_DTOR")?;
    let offset = member("folio._folio_dtor")
        .or_else(|| Some(member("page.sizeof")? + member("page.compound_dtor")?))?;
    Some((offset, 0xff, destructor))
}

/// Where the type of a pageblock is. The error is the name of the fact that is missing.
pub fn pageblock_layout(facts: &Facts) -> Result<PageblockLayout, &'static str> {
    let member = |name: &'static str| facts.members.get(name).copied().ok_or(name);
    let [vmemmap, roots] = VARIABLES;
    for variable in VARIABLES {
        if !facts.variables.contains(variable) {
            return Err(variable);
        }
    }
    let order = facts.pageblock_order.ok_or("/proc/pagetypeinfo")?;
    let bits = facts.constants.get("NR_PAGEBLOCK_BITS").copied();
    let rounded = || {
        let bits = facts.constants.get("__NR_PAGEBLOCK_BITS")?;
        Some(bits.next_power_of_two())
    };
    let section_size = member("mem_section.sizeof")?;
    // `SECTION_SIZE_BITS` of x86-64, with pages of 4 KiB. Only there `vmemmap_base` exists.
    const SECTION_ORDER: u32 = 27 - 12;
    const PAGE: u64 = 4096;
    let address = |name: &str| facts.addresses.get(name).copied().unwrap_or_default();
    Ok(PageblockLayout {
        vmemmap_at: address(vmemmap),
        roots_at: address(roots),
        page_size: member("page.sizeof")?,
        section_size,
        sections_per_root: PAGE / section_size.clamp(1, PAGE),
        usage: member("mem_section.usage")?,
        flags: member("mem_section_usage.pageblock_flags")?,
        section_order: SECTION_ORDER,
        order,
        bits: bits.or_else(rounded).ok_or("NR_PAGEBLOCK_BITS")? as u32,
        reserved: 0,
    })
}

/// The pageblock type's label value that equals a text; `None` for other texts.
#[must_use]
pub fn known_pageblock(text: &str) -> Option<&'static str> {
    let mut names = TYPES.iter().map(|(_, name)| *name);
    names.find(|name| *name == text)
}

/// Label value of each type of pageblock, by the kernel's number (`enum migratetype`).
#[must_use]
pub fn pageblock_names(facts: &Facts) -> [Option<&'static str>; PLACES] {
    let mut names = [None; PLACES];
    for (constant, name) in TYPES {
        let number = facts.constants.get(constant);
        if let Some(slot) = number.and_then(|number| names.get_mut(*number as usize)) {
            *slot = Some(name);
        }
    }
    names
}
