//! Places of unpinnable pages, sampled when a migration receives them.

use pinwatch_common::fold::fold_sampled;

use crate::kernel::memory::next_entry;
use crate::kernel::{self, folio};
use crate::lifecycle::is_sampled;
use crate::maps::{Shared, cells};

/// Samples the first folio of the list that a migration receives at `now`.
#[inline(always)]
pub fn received(now: u64, list: impl FnOnce() -> u64) {
    if kernel::samples_unpinnable()
        && let Some(cells) = cells()
        && is_sampled(&mut cells.unpinnable_gap, now)
    {
        sample(list());
    }
}

/// A separate function: few migrations get here.
#[inline(never)]
fn sample(list: u64) {
    let entry = next_entry(list);
    if entry != 0
        && entry != list
        && let Some(cells) = cells()
    {
        let place = folio::place(folio::of_entry(entry));
        fold_sampled::<Shared>(&mut cells.unpinnable, place as u8);
    }
}
