//! `/proc/kallsyms`: counts of symbols, and the names of a stack's addresses.
#![forbid(unsafe_code)]

use pinwatch::kernel::kallsyms::{SymbolCounts, SymbolQuery, resolve_in};

const ADDRESSES: [u64; 5] = [0, 1, 0xffff_ffff_8100_0010, u64::MAX - 1, u64::MAX];

/// Feeds one input.
pub fn run(data: &[u8]) {
    let query = SymbolQuery {
        symbols: &["_stext", "migrate_pages", "folio_isolate_lru"],
        at_start: &["vmemmap_populate"],
        stack_size: true,
        variables: &["mem_section", "vmemmap_base"],
    };
    SymbolCounts::parse(data, query);
    if let Ok(names) = resolve_in(data, &ADDRESSES) {
        assert_eq!(names.len(), ADDRESSES.len());
    }
}
