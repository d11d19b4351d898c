//! What listeners want: of which pins a record is sent. The BPF programs test it
//! for all listeners together, so that a narrow filter keeps the ring buffer
//! empty; user space tests each listener's own filter again.

use bytemuck::{Pod, Zeroable};

use crate::record::Pin;

/// A thread's name as it is compared.
#[inline(always)]
#[must_use]
pub fn name_words(comm: [u8; 16]) -> [u64; 2] {
    bytemuck::cast(comm)
}

/// A wish, or the union of several. `repr(C)` without padding: it is written
/// into the BPF programs' memory as it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Listening {
    /// How many listen; with 0 no record is made.
    pub listeners: u32,
    /// This process only; 0 is any.
    pub pid: u32,
    /// Pins that took at least as long, in nanoseconds.
    pub min_ns: u64,
    /// This thread name only; all 0 is any.
    pub comm: [u64; 2],
    /// A bit per [`Origin`](crate::record::Origin); 0 is any.
    pub origins: u32,
    /// 1 for pins that returned an error only.
    pub failed_only: u32,
    /// 1 for pins at the beginning of a retry too.
    pub passes: u32,
    /// Always 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Listening>() == 48);

impl Listening {
    /// Nobody listens.
    pub const NOBODY: Self = Self {
        listeners: 0,
        ..Self::ALL
    };

    /// One listener that wants every pin.
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

    /// Whether a record of an ended pin is wanted.
    #[inline(always)]
    #[must_use]
    pub fn wants(&self, pin: &Pin, comm: [u64; 2]) -> bool {
        pin.duration_ns >= self.min_ns
            && (self.failed_only == 0 || pin.returned < 0)
            && self.wants_of(pin, comm)
    }

    /// Whether a record of a pin that begins a retry is wanted.
    #[inline(always)]
    #[must_use]
    pub fn wants_retry(&self, pin: &Pin, comm: [u64; 2]) -> bool {
        self.passes != 0 && self.wants_of(pin, comm)
    }

    #[inline(always)]
    fn wants_of(&self, pin: &Pin, comm: [u64; 2]) -> bool {
        (self.pid == 0 || self.pid == pin.tgid)
            && (self.origins == 0 || self.origins & (1 << (pin.origin & 31)) != 0)
            && (self.comm == [0; 2] || self.comm == comm)
    }

    /// What serves both: wants every pin that one of them wants.
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

    fn wish() -> impl Strategy<Value = Listening> {
        let wish = (1..3u32, 0..3u32, 0..4u64, 0..3u64, 0..8u32, 0..2u32).prop_map(
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
        prop_oneof![4 => wish, 1 => Just(Listening::NOBODY)]
    }

    proptest! {
        #[test]
        fn a_union_misses_nothing(
            a in wish(), b in wish(),
            tgid in 1..3u32, duration_ns in 0..4u64, origin in 0..3u8, returned in -1..2i64, comm in 1..3u64,
        ) {
            let pin = Pin { tgid, duration_ns, origin, returned, ..Pin::zeroed() };
            let wants = |wish: &Listening| wish.listeners > 0 && wish.wants(&pin, [comm, 0]);
            let both = a.union(b);
            prop_assert!(!(wants(&a) || wants(&b)) || wants(&both));
            let retry = |wish: &Listening| wish.listeners > 0 && wish.wants_retry(&pin, [comm, 0]);
            prop_assert!(!(retry(&a) || retry(&b)) || retry(&both));
            prop_assert_eq!(both.listeners, a.listeners + b.listeners);
            prop_assert_eq!(both, b.union(a));
        }
    }

    #[test]
    fn each_wish_alone() {
        let pin = Pin {
            tgid: 7,
            duration_ns: 100,
            origin: 2,
            returned: -12,
            ..Pin::zeroed()
        };
        let wants = |wish: Listening| wish.wants(&pin, [5, 6]);
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
