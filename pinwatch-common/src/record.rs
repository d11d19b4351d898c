//! The records: one pin, the slot it sits in while in flight, and the event that
//! a listener gets when it ends. All `repr(C)` without padding: they are map
//! values and go over the ring buffer as they are.

use bytemuck::{Pod, Zeroable};

use crate::opaque::opaque;

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

/// What a pin is doing; its duration is the sum over these.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Pinning the range, faulting pages in, and unpinning it before a retry.
    Gup = 0,
    /// Looking for unpinnable pages and isolating them. The last sweep of a pin
    /// lasts until the return, unless its function returns nothing and only that
    /// tells its end.
    Collect = 1,
    /// Draining every CPU's LRU caches (`lru_add_drain_all`) for that.
    Drain = 2,
    /// Inside `migrate_pages`.
    Migrate = 3,
    /// From the end of such a sweep to the return.
    Other = 4,
}

/// Number of [`Phase`]s.
pub const PHASES: usize = 5;

/// Label values of [`Phase`], by discriminant.
pub const PHASE_NAMES: [&str; PHASES] = ["gup", "collect", "drain", "migrate", "other"];

/// What kind of page could not be isolated.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolate {
    Lru = 0,
    Hugetlb = 1,
    MovableOps = 2,
}

/// Number of [`Isolate`] kinds.
pub const ISOLATES: usize = 3;

/// Label values of [`Isolate`], by discriminant.
pub const ISOLATE_NAMES: [&str; ISOLATES] = ["lru", "hugetlb", "movable_ops"];

/// Zones that a page can be in: three bits of its flags at most.
pub const ZONES: usize = 8;

/// One long-term pin: one call of the slow path, from entry to return.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Pin {
    /// Entry, `CLOCK_MONOTONIC`, in nanoseconds.
    pub start_ns: u64,
    /// From entry to return, in nanoseconds; 0 while in flight, once out of its slot.
    pub duration_ns: u64,
    /// Thread id in the initial namespace.
    pub tid: u32,
    /// Process id in the initial namespace. After the thread's, as `bpf_get_current_pid_tgid`
    /// gives both.
    pub tgid: u32,
    /// Base pages asked for.
    pub requested: u64,
    /// Base pages pinned, or `-errno`; 0 while in flight, once out of its slot.
    pub returned: i64,
    /// Pages (folios from 6.11 on) that passes found unfit for a long-term pin.
    pub unpinnable: u64,
    /// What migration moved, in the unit of `migrate:mm_migrate_pages`.
    pub moved: u64,
    /// What migration left where it was.
    pub failed: u64,
    /// Pages that retries pinned again (folios for `memfd_pin_folios`).
    pub repinned: u64,
    /// Nanoseconds by [`Phase`]; of an eventful pin in flight, without the running one.
    pub phase_ns: [u64; PHASES],
    /// Calls of `migrate_pages`.
    pub migrate_calls: u32,
    /// Calls of `lru_add_drain_all`.
    pub drains: u32,
    /// Failures to isolate a page, by [`Isolate`].
    pub isolate_failures: [u32; ISOLATES],
    /// What the last `migrate_pages` returned: pages left behind, or `-errno`; 0
    /// when all were moved, and where the return cannot be hooked.
    pub migrate_ret: i32,
    /// `FOLL_*` as passed; the values differ between kernels. 0 for
    /// `memfd_pin_folios`, which takes none.
    pub gup_flags: u32,
    /// An [`Origin`].
    pub origin: u8,
    /// 1 + the zone (`enum zone_type`) of one of the returned pages, picked at
    /// random; 0 if none was looked at.
    pub sampled_zone: u8,
    /// 1 once it has returned: an event of a pin without is of a retry's beginning. In a slot also
    /// [`ENTERED`].
    pub ended: u8,
    /// 1 once the running pass has called `migrate_pages`.
    pub migrated: u8,
    /// Sweeps for unpinnable pages.
    pub passes: u32,
    /// The running [`Phase`].
    pub phase: u8,
    /// 1 once the pin is more than one sweep that found nothing: see [`Flight::begin_events`].
    pub eventful: u8,
    /// The phase to go back to after a drain.
    pub drained_in: u8,
    /// 1 between the event of a migration and the return of `migrate_pages`.
    pub awaits_result: u8,
}

/// The last word of a [`Pin`], from `passes` on, of one whose first sweep runs or was
/// its last. Of one that was not swept yet it is 0.
pub const ONE_SWEEP: u64 = 1 | (Phase::Collect as u64) << u32::BITS;

impl Pin {
    /// Ends the running phase at `now_ns` and begins another. `mark_ns` is when
    /// the running one began; it becomes `now_ns`.
    #[inline(always)]
    pub fn enter_phase(&mut self, mark_ns: &mut u64, now_ns: u64, next: Phase) {
        if let Some(ns) = self.phase_ns.get_mut(opaque(self.phase as usize)) {
            *ns = ns.wrapping_add(now_ns.wrapping_sub(*mark_ns));
        }
        *mark_ns = now_ns;
        self.phase = next as u8;
    }
}

/// [`Pin::ended`] of a pin that the first of two entry programs has begun and the second has not
/// seen yet.
pub const ENTERED: u8 = 2;

/// [`Pin::ended`] of a pin that has returned.
pub const ENDED: u8 = 1;

/// Identifies one call of a function among the calls of its thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Call {
    /// Where the call is on the kernel's stack: the address of the trampoline's arguments, or for
    /// a kprobe the stack pointer at entry.
    pub frame: u64,
    /// The argument `start`, where the kernel can skip programs. A kretprobe does not see it.
    pub start: u64,
}

impl Call {
    /// Added to `frame` when the return was seen. Stack addresses are aligned, so no call has it.
    /// An addition, as the kernel lets no program do anything else with the address of its context.
    pub const RETURNED: u64 = 1;

    /// A call of which nothing is known but where it is on the stack.
    #[inline(always)]
    #[must_use]
    pub const fn at(frame: u64) -> Self {
        Self {
            frame,
            start: frame,
        }
    }

    /// Whether the return was seen.
    #[inline(always)]
    #[must_use]
    pub const fn has_returned(&self) -> bool {
        self.frame & Self::RETURNED != 0
    }
}

/// What the second of two programs at one hook has seen of a pin. If the first program ran too,
/// the pin has more than this.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Seen {
    pub passes: u32,
    pub migrate_calls: u32,
    pub unpinnable: u64,
    pub isolate_failures: [u32; ISOLATES],
    /// Always 0.
    pub reserved: u32,
}

/// A pin in flight. Only the thread that pins writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Flight {
    /// What is known of the pin so far. Its thread and process stand in the slot, and here once
    /// the pin is eventful.
    pub pin: Pin,
    /// When the running phase began; not set before the first sweep of a pin without events.
    pub mark_ns: u64,
    pub call: Call,
    /// Address of the caller's array of pages or folios. Unused by fexit, which sees the argument.
    pub pages: u64,
    /// `max_folios` of `memfd_pin_folios`.
    pub max_folios: u64,
    pub seen: Seen,
}

/// Where a pin sits while it is in flight. A thread owns the slot while `claims` is 1 and `owner`
/// is the thread.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Slot {
    /// Threads that want the slot. Only ever added to and subtracted from,
    /// atomically: 5.10 has no BPF compare-and-swap. A thread that finds another
    /// value than 1 after its own addition takes it back and tries elsewhere.
    pub claims: u64,
    /// The thread's id below and the process's above, as `bpf_get_current_pid_tgid` gives them; 0
    /// without an owner. Only the owner writes it; every thread that uses the set reads it.
    pub owner: u64,
    pub flight: Flight,
    /// In the first slot of a set: calls in flight that found no slot in the set.
    pub without_slot: u64,
    /// In the first slot of a set: the frame of a call whose slot a nested call of the same thread
    /// took.
    pub displaced: u64,
}

impl Flight {
    /// Initialises the fields that a pin of a single pass does not need. Most pins have one pass:
    /// their phase times follow from the entry and the start of the pass, and the return writes
    /// result and duration. Call it once per pin.
    #[inline(always)]
    pub fn begin_events(&mut self, owner: u64) {
        let Self { mark_ns, pin, .. } = self;
        pin.eventful = 1;
        pin.tid = owner as u32;
        pin.tgid = (owner >> u32::BITS) as u32;
        pin.ended = 0;
        if pin.phase == Phase::Gup as u8 {
            *mark_ns = pin.start_ns;
        }
        pin.phase_ns[Phase::Gup as usize] = mark_ns.wrapping_sub(pin.start_ns);
        pin.phase_ns[Phase::Collect as usize] = 0;
        pin.duration_ns = 0;
        pin.returned = 0;
    }
}

/// What a listener gets for each pin that ended and, if it wants passes, of a pin
/// at the beginning of each retry.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PinEvent {
    pub pin: Pin,
    /// The thread's name, NUL-padded: bytes of the process's choosing.
    pub comm: [u8; 16],
}

/// Frames of a kernel stack that are kept.
pub const STACK_FRAMES: usize = 64;

/// The kernel stack of a thread that somebody asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct StackSample {
    /// Samples taken so far.
    pub taken: u64,
    /// Bytes of `frames` in use, or `-errno`.
    pub bytes: i64,
    /// Return addresses, innermost first.
    pub frames: [u64; STACK_FRAMES],
}

const _: () = assert!(size_of::<Pin>() == 152);
const _: () = assert!(size_of::<Slot>() == 256);
const _: () = assert!(size_of::<PinEvent>() == 168);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PHASE_OF: [Phase; PHASES] = [
        Phase::Gup,
        Phase::Collect,
        Phase::Drain,
        Phase::Migrate,
        Phase::Other,
    ];

    proptest! {
        #[test]
        fn phases_add_up_to_the_duration(steps in prop::collection::vec((0..1u64 << 40, 0..PHASES), 1..50)) {
            let mut pin = Pin { start_ns: 77, ..Pin::zeroed() };
            let (mut mark, mut now) = (pin.start_ns, pin.start_ns);
            for (ns, next) in steps {
                now += ns;
                pin.enter_phase(&mut mark, now, PHASE_OF[next]);
            }
            prop_assert_eq!(pin.phase_ns.iter().sum::<u64>(), now - pin.start_ns);
        }
    }
}
