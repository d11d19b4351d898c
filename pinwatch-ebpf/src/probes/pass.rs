//! Passes, and what each found unpinnable. The hook differs by kernel:
//!
//! ```c
//! unsigned long collect_longterm_unpinnable_pages(struct list_head *, unsigned long, struct page **);
//! unsigned long collect_longterm_unpinnable_folios(struct list_head *, [unsigned long,] ...);
//! long check_and_migrate_movable_pages(unsigned long nr_pages, struct page **pages);  // 5.13-
//! long __get_user_pages(struct mm_struct *mm, unsigned long start, unsigned long nr_pages,
//!                       unsigned int gup_flags, ...);             // where both are inlined
//! int folio_isolate_lru(struct folio *folio);                     // one call per unpinnable folio
//! ```

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};

use crate::kernel;
use crate::slot;

#[fentry]
fn pass_fentry(_ctx: FEntryContext) -> u32 {
    sweep();
    0
}

#[kprobe]
fn pass_kprobe(_ctx: ProbeContext) -> u32 {
    sweep();
    0
}

#[kprobe]
fn pass_gup_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(gup_flags) = ctx.arg(3)
        && kernel::is_longterm(gup_flags)
    {
        sweep();
    }
    0
}

#[fexit]
fn unpinnable_fexit2(ctx: FExitContext) -> u32 {
    found(ctx.arg(2));
    0
}

#[fexit]
fn unpinnable_fexit3(ctx: FExitContext) -> u32 {
    found(ctx.arg(3));
    0
}

#[kretprobe]
fn unpinnable_kretprobe(ctx: RetProbeContext) -> u32 {
    found(ctx.ret());
    0
}

#[fentry]
fn isolate_fentry(_ctx: FEntryContext) -> u32 {
    found(1);
    0
}

#[kprobe]
fn isolate_kprobe(_ctx: ProbeContext) -> u32 {
    found(1);
    0
}

#[kprobe]
fn isolate_hugetlb_kprobe(_ctx: ProbeContext) -> u32 {
    found(1);
    0
}

#[fentry]
fn isolate_hugetlb_fentry(_ctx: FEntryContext) -> u32 {
    found(1);
    0
}

#[inline(always)]
fn sweep() {
    if let Some(slot) = slot::find(kernel::tid()) {
        slot.pin.passes = slot.pin.passes.saturating_add(1);
        slot.pin.migrated_last = 0;
    }
}

#[inline(always)]
fn found(unpinnable: u64) {
    if unpinnable != 0
        && let Some(slot) = slot::find(kernel::tid())
    {
        slot.pin.unpinnable = slot.pin.unpinnable.wrapping_add(unpinnable);
    }
}
