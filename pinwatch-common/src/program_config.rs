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
    /// 1 if long-term calls of GUP-fast are measured, else 0.
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

/// The registers cannot be found, or origins are not measured.
pub const USER_REGS_UNKNOWN: u32 = 0;
/// By the helper `bpf_task_pt_regs` (5.15).
pub const USER_REGS_BY_HELPER: u32 = 1;
/// From the top of the kernel stack.
pub const USER_REGS_BY_STACK: u32 = 2;

/// The kernel preempts no program.
pub const PREEMPTION_NONE: u32 = 0;
/// The kernel preempts programs, and lacks some of [`KFUNCS`](crate::abi::KFUNCS).
pub const PREEMPTION_ALWAYS: u32 = 1;
/// The kernel preempts programs, and they can disable that with [`KFUNCS`](crate::abi::KFUNCS).
pub const PREEMPTION_CAN_BE_DISABLED: u32 = 2;
