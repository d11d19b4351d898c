//! Records: a pin, the slot that holds it while it is in flight, and the event that followers get.
//!
//! All are `repr(C)` without padding, since they are map values and ring-buffer entries.

use bytemuck::{Pod, Zeroable};

use crate::holder::Holder;
use crate::verifier_hint::opaque;

/// Kernel interface that asked for a pin.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Any other, or not recognisable by the system call.
    Other = 0,
    /// io_uring: registered buffers.
    IoUring = 1,
    /// AF_XDP: UMEM.
    Xdp = 2,
    /// RDMA verbs.
    Rdma = 3,
    /// VFIO.
    Vfio = 4,
    /// IOMMUFD.
    Iommufd = 5,
    /// udmabuf.
    Udmabuf = 6,
    /// vDPA in user space (VDUSE).
    Vdpa = 7,
    /// Video4Linux 2.
    V4l2 = 8,
    /// KVM: memory of encrypted guests.
    Kvm = 9,
    /// NVIDIA's driver: memory registered with CUDA.
    Nvidia = 10,
    /// DRM and accel drivers.
    Accel = 11,
}

/// Number of [`Origin`]s.
pub const ORIGINS: usize = 12;

/// Origin of weak pins by `process_vm_readv` and `process_vm_writev`, which make no long-term pins.
pub const PROCESS_VM: u8 = ORIGINS as u8;

/// Label values of [`Origin`], by discriminant.
pub const ORIGIN_NAMES: [&str; ORIGINS] = [
    "other", "io_uring", "xdp", "rdma", "vfio", "iommufd", "udmabuf", "vdpa", "v4l2", "kvm",
    "nvidia", "accel",
];

/// Cause of a failed pin, derived by [`crate::cause::cause`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// None of the following, or indistinguishable on this kernel.
    Other = 0,
    /// A page could not be migrated because it stayed referenced.
    MigrateBusy = 1,
    /// No target page could be allocated for migration.
    MigrateNomem = 2,
    /// A page could not be isolated.
    Isolate = 3,
    /// An allocation outside migration failed.
    Nomem = 4,
    /// Bad address, page that cannot be faulted in, or killed task.
    Fault = 5,
    /// Direct-access (DAX) mapping of a file system.
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

/// Phase of a pin. The time in all phases adds up to the pin's duration.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Pinning the range, faulting pages in, and unpinning the range before a retry.
    Gup = 0,
    /// Looking for unpinnable pages and isolating them. The last one lasts until the pin's return,
    /// except where the kernel's function returns nothing: there its own return ends it.
    Collect = 1,
    /// Draining every CPU's LRU batches (`lru_add_drain_all`).
    Drain = 2,
    /// Inside `migrate_pages`.
    Migrate = 3,
    /// From the return of a collect function that returns nothing to the pin's return.
    Other = 4,
}

/// Number of [`Phase`]s.
pub const PHASES: usize = 5;

/// Label values of [`Phase`], by discriminant.
pub const PHASE_NAMES: [&str; PHASES] = ["gup", "collect", "drain", "migrate", "other"];

/// Kind of page that could not be isolated.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolate {
    /// Page on an LRU list.
    Lru = 0,
    /// Page of hugetlbfs.
    Hugetlb = 1,
    /// Non-LRU page with movable operations, such as a balloon's.
    MovableOps = 2,
}

/// Number of [`Isolate`] kinds.
pub const ISOLATES: usize = 3;

/// Label values of [`Isolate`], by discriminant.
pub const ISOLATE_NAMES: [&str; ISOLATES] = ["lru", "hugetlb", "movable_ops"];

/// One long-term pin: one call of the slow path or of `memfd_pin_folios`, from entry to return.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Pin {
    /// Time of entry in nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Nanoseconds from entry to return. 0 in every copy of a pin in flight; its slot may hold the
    /// previous pin's.
    pub duration_ns: u64,
    /// Thread id in the initial namespace.
    pub tid: u32,
    /// Process id in the initial namespace. Follows `tid`, in the order of
    /// `bpf_get_current_pid_tgid`.
    pub tgid: u32,
    /// Base pages asked for.
    pub requested: u64,
    /// Base pages pinned, or `-errno`. 0 in every copy of a pin in flight; its slot may hold the
    /// previous pin's.
    pub returned: i64,
    /// Unpinnable pages of all passes, as far as they are seen: pages that a migration received, in the unit of
    /// the tracepoint `migrate:mm_migrate_pages`, and failed isolations.
    pub unpinnable: u64,
    /// Pages that were migrated, in the unit of the tracepoint `migrate:mm_migrate_pages`.
    pub moved: u64,
    /// Pages that could not be migrated, in the same unit.
    pub failed: u64,
    /// Pages that retries pinned again; folios for `memfd_pin_folios`.
    pub repinned: u64,
    /// Up to [`BLOCKERS`](crate::blocker::BLOCKERS) folios that the pin's first failed migration left behind,
    /// packed, the first in the lowest bits: see [`blockers`](crate::blocker::blockers). 0 if none was seen.
    pub blockers: u64,
    /// Nanoseconds by [`Phase`]. Excludes the running phase of an eventful pin in flight.
    pub phase_ns: [u64; PHASES],
    /// Calls of `migrate_pages`.
    pub migrate_calls: u32,
    /// Calls of `lru_add_drain_all`.
    pub drains: u32,
    /// Failed isolations by [`Isolate`].
    pub isolate_failures: [u32; ISOLATES],
    /// Return value of the last `migrate_pages`: pages that were not migrated, or `-errno`. Also 0
    /// where the return cannot be hooked.
    pub migrate_ret: i32,
    /// `FOLL_*` flags of the call, whose values differ between kernels. 0 for `memfd_pin_folios`,
    /// which takes none.
    pub gup_flags: u32,
    /// An [`Origin`], or for [`Origin::Other`] the type of an ioctl: see [`crate::origin::ioctl_type`].
    pub origin: u8,
    /// Packed [`Place`](crate::place::Place) of one random returned page; 0 if none was sampled.
    pub sampled_place: u8,
    /// [`ENDED`] after the return. An event with 0 reports the beginning of a retry. One with
    /// [`HOLD`](crate::hold::HOLD) or [`REFUSAL`](crate::refusal::REFUSAL) is no pin. In a slot also [`ENTERED`].
    pub ended: u8,
    /// [`PassOutcome`](crate::cause::PassOutcome) of the running or last pass, and
    /// [`MIGRATED`](crate::cause::MIGRATED).
    pub outcome: u8,
    /// Number of passes, including the running one. Up to 5.12 (`check_and_migrate_cma_pages`) a scan that
    /// could isolate nothing is repeated without pinning again; each such scan counts as a pass.
    pub passes: u32,
    /// The running [`Phase`].
    pub phase: u8,
    /// 1 once anything beyond a first pass happened: see [`Flight::begin_events`].
    pub eventful: u8,
    /// [`Phase`] that the running or last drain interrupted.
    pub drained_in: u8,
    /// Between the tracepoint at the end of a migration and the return of `migrate_pages`: 1 + the
    /// [`PassOutcome`](crate::cause::PassOutcome) if that returns 0. Otherwise 0.
    pub awaits_result: u8,
}

/// Value of a [`Pin`]'s last word (from `passes` on) after the beginning of its first pass, if
/// nothing else happened. Before that pass the word is 0.
pub const ONE_PASS: u64 = 1 | (Phase::Collect as u64) << u32::BITS;

impl Pin {
    /// Ends the running phase at `now_ns` and begins `next`.
    ///
    /// `mark_ns` holds the beginning of the running phase and is set to `now_ns`.
    #[inline(always)]
    pub fn enter_phase(&mut self, mark_ns: &mut u64, now_ns: u64, next: Phase) {
        if let Some(ns) = self.phase_ns.get_mut(opaque(self.phase as usize)) {
            *ns = ns.wrapping_add(now_ns.wrapping_sub(*mark_ns));
        }
        *mark_ns = now_ns;
        self.phase = next as u8;
    }
}

/// [`Pin::ended`] between the first and the second program at the pin's entry.
pub const ENTERED: u8 = 2;

/// [`Pin::ended`] of a pin that returned.
pub const ENDED: u8 = 1;

/// Identifies one call of a function among the calls of its thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Call {
    /// Address of the call on the kernel stack: the trampoline's arguments, or for a kprobe the stack
    /// pointer at entry.
    pub frame: u64,
    /// Argument `start`. Kept only where the kernel can skip programs; a kretprobe cannot see it.
    pub start: u64,
}

impl Call {
    /// Added to `frame` when the return is seen.
    ///
    /// Stack addresses are aligned, so no running call has this bit. It is added because the verifier
    /// allows no other operation on the address of a program's context.
    pub const RETURNED: u64 = 1;

    /// Call that is identified by its stack address alone.
    #[inline(always)]
    #[must_use]
    pub const fn at(frame: u64) -> Self {
        Self {
            frame,
            start: frame,
        }
    }

    /// Whether the call's return was seen.
    #[inline(always)]
    #[must_use]
    pub const fn has_returned(&self) -> bool {
        self.frame & Self::RETURNED != 0
    }
}

/// Counts of a pin when the second of two programs at a hook last ran. If the first program has run
/// since, the pin's own counts are larger.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Seen {
    /// [`Pin::passes`] at that time.
    pub passes: u32,
    /// [`Pin::migrate_calls`] at that time.
    pub migrate_calls: u32,
    /// [`Pin::isolate_failures`] at that time.
    pub isolate_failures: [u32; ISOLATES],
    /// Undefined: the word of [`forgotten`](crate::verifier_hint::forgotten).
    pub scratch: u32,
}

/// Pin in flight. Only the pinning thread writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Flight {
    /// The pin so far. `tid` and `tgid` are set once it is eventful; before that only
    /// [`Slot::owner`] has them.
    pub pin: Pin,
    /// Beginning of the running phase in nanoseconds of `CLOCK_MONOTONIC`. Of a pin without events,
    /// undefined before its first pass.
    pub mark_ns: u64,
    /// Call that made the pin.
    pub call: Call,
    /// Address of the caller's array of pages or folios. Unused by fexit, which sees the argument.
    pub pages: u64,
    /// First page that the running scan tried to isolate; 0 before it. Used where the kernel can repeat a
    /// scan without pinning again.
    pub scan_page: u64,
    /// 1 if the running scan isolated a page, else 0. As `scan_page`.
    pub scan_isolated: u32,
    /// Argument `max_folios` of `memfd_pin_folios`.
    pub max_folios: u32,
    /// Counts that second programs keep.
    pub seen: Seen,
}

/// Place of a pin in flight. A thread owns the slot while `claims` is 1 and `owner` is the thread.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Slot {
    /// Number of threads that claim the slot.
    ///
    /// Written only by atomic addition and subtraction, since 5.10 has no BPF compare-and-swap. A
    /// thread that reads a value other than 1 after its addition takes it back and tries the next
    /// slot.
    pub claims: u64,
    /// Thread id in the lower half and process id in the upper half, as returned by
    /// `bpf_get_current_pid_tgid`. The lower half is 0 without an owner.
    ///
    /// Only the owner writes it. Every thread that uses the set reads it.
    pub owner: u64,
    /// The owner's pin.
    pub flight: Flight,
    /// Of the calls of the set's threads that return without an entry, those that are counted as lost already. In
    /// the first slot of a set: number of pins in flight that found no slot. In the second: number of calls of
    /// GUP-fast in flight that found no room. In the third: [`Call::frame`] of a call whose slot was taken by a nested
    /// call of the same thread. In the fourth: that of a call which the first program at its return has counted.
    pub of_set: u64,
}

impl Flight {
    /// Initialises the fields that a pin of a single pass does not need. Call it once per pin.
    ///
    /// Most pins have one pass. Their phase times follow from their entry and the beginning of the
    /// pass, and their return writes result and duration.
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

    /// Notes that the kernel tries to isolate a page. Begins a pass if the kernel repeats its scan without
    /// pinning again.
    ///
    /// It does so as long as it can isolate nothing. So the scan begins again if its first page returns and
    /// none was isolated meanwhile. If the buffer maps that page twice, each scan then counts as two passes.
    #[inline(always)]
    pub fn isolating(&mut self, page: u64) {
        if self.scan_page == 0 {
            self.scan_page = page;
            self.scan_isolated = 0;
        } else if self.scan_page == page && self.scan_isolated == 0 {
            self.pin.begin_pass();
            // No second program counts this pass.
            self.seen.passes = self.seen.passes.wrapping_add(1);
        }
    }
}

/// Event for followers: a pin that returned or, if the filter asks for passes, a pin that begins a
/// retry.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PinEvent {
    /// The pin. [`Pin::ended`] distinguishes return and retry.
    pub pin: Pin,
    /// Thread name, NUL-padded. The process chooses these bytes.
    pub comm: [u8; 16],
    /// Holder of a weak pin of one of the pin's blockers, if it is known.
    pub holder: Holder,
}

/// Maximum number of frames in a [`StackSample`].
pub const STACK_FRAMES: usize = 64;

/// Kernel stack of the thread that user space asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct StackSample {
    /// Number of samples taken so far.
    pub taken: u64,
    /// Number of bytes used in `frames`, or `-errno`.
    pub bytes: i64,
    /// Return addresses, innermost first.
    pub frames: [u64; STACK_FRAMES],
}

const _: () = assert!(size_of::<Pin>() == 160);
const _: () = assert!(size_of::<Slot>() == 256);
const _: () = assert!(size_of::<PinEvent>() == 224);

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    const PHASE_OF: [Phase; PHASES] = [
        Phase::Gup,
        Phase::Collect,
        Phase::Drain,
        Phase::Migrate,
        Phase::Other,
    ];

    /// The scans of the loop up to 5.12. `maps` are the pages of the buffer, of which none can be isolated
    /// in the first `failing` scans. Returns failed isolations and passes.
    fn scans(maps: &[u64], failing: u32) -> (u32, u32) {
        let mut flight = Flight::zeroed();
        flight.pin.begin_pass();
        for scan in 0..=failing {
            let mut isolated = std::collections::BTreeSet::new();
            for page in maps {
                flight.isolating(*page);
                // A page that the buffer maps twice is isolated once.
                if scan < failing || !isolated.insert(page) {
                    flight.pin.isolate_failures[0] += 1;
                    flight.pin.page_not_isolated();
                } else {
                    flight.scan_isolated = 1;
                }
            }
        }
        (flight.pin.isolate_failures[0], flight.pin.passes)
    }

    #[test]
    fn each_scan_without_pinning_counts_as_a_pass() {
        for failing in [0, 1, 5, 20_000] {
            let passes = failing + 1;
            assert_eq!(scans(&[7], failing), (failing, passes));
            assert_eq!(scans(&[7, 9, 8], failing), (3 * failing, passes));
        }
    }

    #[test]
    fn a_page_that_a_buffer_maps_twice_begins_no_pass_if_it_was_isolated() {
        assert_eq!(scans(&[7, 9, 7, 9], 0), (2, 1));
        assert_eq!(scans(&[7, 9, 9, 9], 3), (14, 4));
    }

    #[test]
    fn a_scan_after_pinning_again_begins_no_further_pass() {
        let mut flight = Flight::zeroed();
        for pass in 1..=3 {
            flight.pin.begin_pass();
            flight.scan_page = 0;
            for page in [7, 9] {
                flight.isolating(page);
            }
            assert_eq!(flight.pin.passes, pass);
        }
    }

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
