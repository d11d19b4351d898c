//! Filter of followers: selects the pins whose events are sent.
//!
//! The BPF programs test the union of all followers' filters, so that narrow filters keep the ring
//! buffer empty. User space then tests each follower's own filter.

use bytemuck::{Pod, Zeroable};

use crate::origin::origin_index;
use crate::record::Pin;

/// A thread's name as two words, the form in which filters compare it.
#[inline(always)]
#[must_use]
pub fn name_words(comm: [u8; 16]) -> [u64; 2] {
    bytemuck::cast(comm)
}

/// Filter of one follower, or the union of several followers' filters.
///
/// `repr(C)` without padding: user space writes its bytes into a global of the BPF programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Listening {
    /// Number of connected followers. 0 disables all events.
    pub listeners: u32,
    /// Process id in the initial namespace; 0 selects all.
    pub pid: u32,
    /// Minimum duration in nanoseconds.
    pub min_ns: u64,
    /// Thread name as in [`name_words`]; all 0 selects all.
    pub comm: [u64; 2],
    /// Bit mask over [`Origin`](crate::record::Origin); 0 selects all.
    pub origins: u32,
    /// 1 selects only pins that returned an error.
    pub failed_only: u32,
    /// 1 also selects pins at the beginning of each retry.
    pub passes: u32,
    /// Always 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Listening>() == 48);

impl Listening {
    /// No follower is connected.
    pub const NOBODY: Self = Self {
        listeners: 0,
        ..Self::ALL
    };

    /// One follower of every pin.
    pub const ALL: Self = Self {
        listeners: 1,
        pid: 0,
        min_ns: 0,
        comm: [0; 2],
        origins: 0,
        failed_only: 0,
        passes: 0,
        reserved: 0,
    };

    /// Whether the filter selects a pin that returned.
    #[inline(always)]
    #[must_use]
    pub fn wants(&self, pin: &Pin, comm: [u64; 2]) -> bool {
        pin.duration_ns >= self.min_ns
            && (self.failed_only == 0 || pin.returned < 0)
            && self.wants_thread_and_origin(pin, comm)
    }

    /// Whether the filter selects a pin that begins a retry.
    #[inline(always)]
    #[must_use]
    pub fn wants_retry(&self, pin: &Pin, comm: [u64; 2]) -> bool {
        self.passes != 0 && self.wants_thread_and_origin(pin, comm)
    }

    #[inline(always)]
    fn wants_thread_and_origin(&self, pin: &Pin, comm: [u64; 2]) -> bool {
        (self.pid == 0 || self.pid == pin.tgid)
            && (self.origins == 0 || self.origins & (1 << origin_index(pin.origin)) != 0)
            && (self.comm == [0; 2] || self.comm == comm)
    }

    /// Filter that selects every pin that either filter selects; it may select more.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        if self.listeners == 0 {
            return other;
        }
        if other.listeners == 0 {
            return self;
        }
        Self {
            listeners: self.listeners + other.listeners,
            pid: if self.pid == other.pid { self.pid } else { 0 },
            min_ns: self.min_ns.min(other.min_ns),
            comm: if self.comm == other.comm {
                self.comm
            } else {
                [0; 2]
            },
            origins: if self.origins == 0 || other.origins == 0 {
                0
            } else {
                self.origins | other.origins
            },
            failed_only: self.failed_only & other.failed_only,
            passes: self.passes | other.passes,
            reserved: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter() -> impl Strategy<Value = Listening> {
        let filter = (1..3u32, 0..3u32, 0..4u64, 0..3u64, 0..8u32, 0..2u32).prop_map(
            |(listeners, pid, min_ns, comm, origins, failed_only)| Listening {
                listeners,
                pid,
                min_ns,
                comm: [comm, 0],
                origins,
                failed_only,
                passes: failed_only ^ 1,
                reserved: 0,
            },
        );
        prop_oneof![4 => filter, 1 => Just(Listening::NOBODY)]
    }

    proptest! {
        #[test]
        fn a_union_misses_nothing(
            a in filter(), b in filter(),
            tgid in 1..3u32, duration_ns in 0..4u64, origin in 0..3u8, returned in -1..2i64, comm in 1..3u64,
        ) {
            let pin = Pin { tgid, duration_ns, origin, returned, ..Pin::zeroed() };
            let wants = |filter: &Listening| filter.listeners > 0 && filter.wants(&pin, [comm, 0]);
            let both = a.union(b);
            prop_assert!(!(wants(&a) || wants(&b)) || wants(&both));
            let retry = |filter: &Listening| filter.listeners > 0 && filter.wants_retry(&pin, [comm, 0]);
            prop_assert!(!(retry(&a) || retry(&b)) || retry(&both));
            prop_assert_eq!(both.listeners, a.listeners + b.listeners);
            prop_assert_eq!(both, b.union(a));
        }
    }

    #[test]
    fn each_condition_alone() {
        let pin = Pin {
            tgid: 7,
            duration_ns: 100,
            origin: 2,
            returned: -12,
            ..Pin::zeroed()
        };
        let wants = |filter: Listening| filter.wants(&pin, [5, 6]);
        let all = Listening::ALL;
        assert!(wants(all));
        assert!(wants(Listening { pid: 7, ..all }) && !wants(Listening { pid: 8, ..all }));
        assert!(
            wants(Listening { min_ns: 100, ..all }) && !wants(Listening { min_ns: 101, ..all })
        );
        assert!(wants(Listening { origins: 4, ..all }) && !wants(Listening { origins: 3, ..all }));
        assert!(
            wants(Listening {
                comm: [5, 6],
                ..all
            }) && !wants(Listening {
                comm: [5, 7],
                ..all
            })
        );
        let fine = Pin { returned: 1, ..pin };
        let failed = Listening {
            failed_only: 1,
            ..all
        };
        assert!(wants(failed) && !failed.wants(&fine, [5, 6]));
        let passes = Listening {
            passes: 1,
            ..failed
        };
        assert!(passes.wants_retry(&fine, [5, 6]) && !failed.wants_retry(&fine, [5, 6]));
    }
}
