//! `/proc/kallsyms`: counts of symbols, and the names of a stack's addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwatch::kernel::kallsyms::{SymbolCounts, SymbolQuery, resolve_in};

const ADDRESSES: [u64; 5] = [0, 1, 0xffff_ffff_8100_0010, u64::MAX - 1, u64::MAX];

fuzz_target!(|data: &[u8]| {
    pinwatch_fuzz::count(data);
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
});
