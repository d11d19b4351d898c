//! Configuration of the BPF programs: properties of the running kernel and the selected measurements.
//!
//! User space writes it into the object's read-only data before it loads the programs. The verifier then
//! treats each field as a constant and removes the branches that it rules out.

use bytemuck::{Pod, Zeroable};

/// Symbol of the BPF object that holds the [`ProgramConfig`].
pub const PROGRAM_CONFIG_SYMBOL: &str = "PROGRAM_CONFIG";

/// Configuration of the BPF programs. All zeroes measure nothing beyond the pins themselves.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ProgramConfig {
    /// Offset in bytes of `nr_entries` in `struct pages_or_folios`; see `reads_nr_entries`.
    pub nr_entries_offset: u64,
    /// Offset in bytes of `flags` in `struct page`.
    pub page_flags_offset: u64,
    /// What blockers are read by.
    pub folio: FolioLayout,
    /// Where the type of a pageblock is.
    pub pageblock: PageblockLayout,
    /// Offset in bytes of `stack` in `struct task_struct`, for [`USER_REGS_BY_STACK`].
    pub task_stack_offset: u64,
    /// Offset in bytes of the user's registers from the start of a kernel stack, for
    /// [`USER_REGS_BY_STACK`].
    pub stack_regs_offset: u64,
    /// Value of `FOLL_LONGTERM`: 0x10000 up to 6.2, an enum constant from 6.3 on.
    pub foll_longterm: u32,
    /// `migrate_reason` of this path: `MR_LONGTERM_PIN`, before 5.13 `MR_CONTIG_RANGE`.
    pub migrate_reason: u32,
    /// Lowest bit of the zone in a page's flags.
    pub zone_shift: u32,
    /// Mask of a zone's bits after the shift. 0 if zones cannot be read or are not measured.
    pub zone_mask: u32,
    /// Bit mask over [`Isolate`](crate::record::Isolate): set if the kind's function returns a bool, true
    /// for isolated. Otherwise it returns an int, 0 for isolated.
    pub isolate_bools: u32,
    /// Bit mask over [`Isolate`](crate::record::Isolate): set if the kind's failures are counted.
    pub isolate_counts: u32,
    /// Way to find the registers of the running system call: one of `USER_REGS_*`.
    pub user_regs: u32,
    /// Whether another task's programs can run while a program is preempted: one of `PREEMPTION_*`.
    pub preemption: u32,
    /// 1 if calls of GUP-fast are measured, else 0.
    pub fast_path: u32,
    /// 1 if `nr_entries_offset` is known and kernel lockdown allows reading memory, else 0.
    pub reads_nr_entries: u32,
    /// Odd random number for [`slot_set`](crate::limits::slot_set).
    pub slot_secret: u32,
    /// 1 if the kernel can repeat a scan without pinning again, and isolations show it, else 0.
    pub scans_again: u32,
    /// Bit mask of `UNSEEN_*`: steps that can fail a pin unseen.
    pub unseen: u32,
    /// 1 if unpinnable pages are counted, else 0.
    pub counts_unpinnable: u32,
    /// 1 if each pass pins its range by one call of `__get_user_pages`, and that shows the passes, else 0.
    /// Pinning again without a migration then shows that the pass before found unpinnable pages.
    pub gup_shows_found: u32,
    /// 1 if the programs may read memory of the running process, else 0.
    pub reads_user: u32,
    /// 1 if weak pins are tracked, else 0.
    pub weak_pins: u32,
    /// Number of `ZONE_MOVABLE`.
    pub zone_movable: u32,
    /// Number of `MIGRATE_CMA`; a number that no pageblock has if the kernel has no CMA.
    pub pageblock_cma: u32,
    /// Value of `FOLL_FAST_ONLY`: calls of GUP-fast that never take the slow path, some of them in an NMI.
    pub foll_fast_only: u32,
    /// One of `UNPINNABLE_*`.
    pub samples_unpinnable: u32,
    /// 1 if the return of `migrate_pages` shows the folios that it left, else 0.
    pub blockers_at_return: u32,
    /// Offset in bytes of `compound_head` in `struct page`, from 7.1 on `compound_info`.
    pub compound_offset: u64,
    /// BTF id of `struct page`, whose first word is its flags; 0 if programs cannot read memory by loads.
    pub page_struct: u64,
    /// Offset in bytes of `comm` in `struct task_struct`; 0 if programs cannot read memory by loads.
    pub comm_offset: u64,
    /// 1 if the helper `bpf_get_func_arg` exists (5.17), else 0.
    pub func_arg: u32,
    /// Always 0.
    pub reserved: u32,
}

/// Where the properties of a folio are in its `struct page`s, in bytes from the first; bits of its flags.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FolioLayout {
    /// Offset of `flags`.
    pub flags: u64,
    /// Offset of the list entry `lru`.
    pub lru: u64,
    /// Offset of `mapping`.
    pub mapping: u64,
    /// Offset of `_refcount`.
    pub refcount: u64,
    /// Offset of `_mapcount`, that of a folio of one page.
    pub mapcount: u64,
    /// Offset of the mappings of a large folio; 0 if the kernel keeps no sum.
    pub large_mapcount: u64,
    /// Offset of the pins of a large folio; 0 if the kernel does not count them.
    pub pincount: u64,
    /// Offset of the 32 bits that identify a folio of hugetlbfs: see `hugetlb_mask`.
    pub hugetlb: u64,
    /// Bit of the flags of a locked folio.
    pub locked: u32,
    /// Bit of the flags of a folio under writeback.
    pub writeback: u32,
    /// Bit of the flags of a large folio.
    pub head: u32,
    /// Bit of the flags of anonymous and shmem folios, which swap backs.
    pub swapbacked: u32,
    /// Bit of the flags of a folio in the swap cache, if that of `swapbacked` is set too.
    pub swapcache: u32,
    /// Bit of the flags of a folio with private data of its file system, which holds a reference.
    pub private: u32,
    /// A large folio is one of hugetlbfs if these bits of its 32 bits equal `hugetlb_value`. 0 if that cannot
    /// be seen.
    pub hugetlb_mask: u32,
    /// See `hugetlb_mask`.
    pub hugetlb_value: u32,
    /// Bit of the flags of a folio on a list of the LRU. One in a batch for it, or isolated, has another
    /// reference instead.
    pub on_lru: u32,
    /// 1 if folios that a failed migration left behind are watched afterwards, else 0.
    pub watches: u32,
}

/// Where the type of a page's pageblock is, on a kernel with SPARSEMEM_EXTREME and a virtual memmap. All
/// zeroes if pageblocks cannot be read. The addresses never leave the machine's memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PageblockLayout {
    /// Address of the variable `vmemmap_base`, which holds the address of page frame 0's `struct page`.
    pub vmemmap_at: u64,
    /// Address of the variable `mem_section`, which holds the address of the array of roots.
    pub roots_at: u64,
    /// Bytes of a `struct page`.
    pub page_size: u64,
    /// Bytes of a `struct mem_section`.
    pub section_size: u64,
    /// Sections in a root.
    pub sections_per_root: u64,
    /// Offset of `usage` in `struct mem_section`.
    pub usage: u64,
    /// Offset of `pageblock_flags` in `struct mem_section_usage`.
    pub flags: u64,
    /// Base-2 logarithm of the pages in a section.
    pub section_order: u32,
    /// Base-2 logarithm of the pages in a pageblock.
    pub order: u32,
    /// Bits of a pageblock's flags, of which the lowest three are its type.
    pub bits: u32,
    /// Always 0.
    pub reserved: u32,
}

/// Calls of `migrate_pages` are not measured.
pub const UNSEEN_MIGRATIONS: u32 = 1;
/// Neither failures to isolate pages of the LRU are measured, nor is it seen whether a pass found unpinnable
/// pages.
pub const UNSEEN_ISOLATIONS: u32 = 2;
/// Passes are not measured, so that no pin is known to have failed before its first pass.
pub const UNSEEN_PASSES: u32 = 4;

/// The places of unpinnable pages are not sampled.
pub const UNPINNABLE_UNSEEN: u32 = 0;
/// By a hook that shows the list of folios.
pub const UNPINNABLE_IN_LIST: u32 = 1;
/// By the tracepoint at the start of a migration, which looks for the list on the stack.
pub const UNPINNABLE_AT_START: u32 = 2;

/// The registers cannot be found, or origins are not measured.
pub const USER_REGS_UNKNOWN: u32 = 0;
/// By the helper `bpf_task_pt_regs` (5.15).
pub const USER_REGS_BY_HELPER: u32 = 1;
/// From the top of the kernel stack.
pub const USER_REGS_BY_STACK: u32 = 2;

/// The kernel preempts no program.
pub const PREEMPTION_NONE: u32 = 0;
/// The kernel preempts programs, and lacks some of [`PREEMPTION`](crate::abi::PREEMPTION).
pub const PREEMPTION_ALWAYS: u32 = 1;
/// The kernel preempts programs, and they can disable that with [`PREEMPTION`](crate::abi::PREEMPTION).
pub const PREEMPTION_CAN_BE_DISABLED: u32 = 2;
