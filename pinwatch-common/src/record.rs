//! The records: one pin, the slot it sits in while in flight, and the event that
//! a listener gets when it ends. All `repr(C)` without padding: they are map
//! values and go over the ring buffer as they are.

use bytemuck::{Pod, Zeroable};

/// Who asked for a pin.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Other = 0,
    IoUring = 1,
    Xdp = 2,
    Rdma = 3,
    Vfio = 4,
    Iommufd = 5,
    Udmabuf = 6,
    Vdpa = 7,
    V4l2 = 8,
    Kvm = 9,
}

/// Number of [`Origin`]s.
pub const ORIGINS: usize = 10;

/// Label values of [`Origin`], by discriminant.
pub const ORIGIN_NAMES: [&str; ORIGINS] = [
    "other", "io_uring", "xdp", "rdma", "vfio", "iommufd", "udmabuf", "vdpa", "v4l2", "kvm",
];

/// Why a pin failed, decided by [`crate::fold::cause`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// None of the below, or not to be told on this kernel.
    Other = 0,
    /// A page stayed referenced by somebody else, so migration left it.
    MigrateBusy = 1,
    /// There was no page to migrate to.
    MigrateNomem = 2,
    /// Pages could not be taken off their list.
    Isolate = 3,
    /// An allocation of the path itself failed.
    Nomem = 4,
    /// A bad address, a page that cannot be faulted in, or a killed task.
    Fault = 5,
    /// A file system's direct-access mapping.
    Dax = 6,
}

/// Number of [`Cause`]s.
pub const CAUSES: usize = 7;

/// Label values of [`Cause`], by discriminant.
pub const CAUSE_NAMES: [&str; CAUSES] = [
    "other",
    "migrate_busy",
    "migrate_nomem",
    "isolate",
    "nomem",
    "fault",
    "dax",
];

/// One long-term pin: one call of the slow path, from entry to return.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Pin {
    /// Entry, `CLOCK_MONOTONIC`, in nanoseconds.
    pub start_ns: u64,
    /// From entry to return, in nanoseconds; 0 while in flight.
    pub duration_ns: u64,
    /// Process id in the initial namespace.
    pub tgid: u32,
    /// Thread id in the initial namespace.
    pub tid: u32,
    /// Base pages asked for.
    pub requested: u64,
    /// What the kernel function returned: base pages pinned, or `-errno`.
    pub returned: i64,
    /// Pages (folios from 6.11 on) that passes found unfit for a long-term pin.
    pub unpinnable: u64,
    /// What migration moved, in the unit of `migrate:mm_migrate_pages`.
    pub moved: u64,
    /// What migration left where it was.
    pub failed: u64,
    /// Time inside `migrate_pages`, in nanoseconds.
    pub migrate_ns: u64,
    /// Calls of `migrate_pages`.
    pub migrate_calls: u32,
    /// Sweeps for unpinnable pages.
    pub passes: u32,
    /// `FOLL_*` as passed; the values differ between kernels.
    pub gup_flags: u32,
    /// An [`Origin`].
    pub origin: u8,
    /// 1 from the end of a migration until the range is pinned again.
    pub migrated_last: u8,
    /// Always 0.
    pub reserved: [u8; 2],
    /// What the last `migrate_pages` returned: pages left behind, or `-errno`; 0
    /// when all were moved, and where the return cannot be hooked.
    pub migrate_ret: i32,
    /// Always 0.
    pub reserved2: u32,
}

/// Where a pin sits while it is in flight. A slot is owned by a thread while
/// `claims` is 1 and `pin.tid` is the thread.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Slot {
    /// Threads that want the slot. Only ever added to and subtracted from,
    /// atomically: 5.10 has no BPF compare-and-swap. A thread that finds another
    /// value than 1 after its own addition takes it back and tries elsewhere.
    pub claims: u64,
    /// When the running `migrate_pages` began; 0 outside of it.
    pub migrate_start_ns: u64,
    /// What is known of the pin so far.
    pub pin: Pin,
    /// Always 0.
    pub reserved: [u64; 2],
}

/// What a listener gets for each pin that ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PinEvent {
    pub pin: Pin,
    /// The thread's name, NUL-padded: bytes of the process's choosing.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Pin>() == 96);
const _: () = assert!(size_of::<Slot>() == 128);
const _: () = assert!(size_of::<PinEvent>() == 112);
