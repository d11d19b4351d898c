//! Registrations that the kernel refused although no pin failed.

use bytemuck::{Pod, Zeroable};

use crate::record::{Pin, PinEvent};

/// [`Pin::ended`] of an event that carries a refusal.
pub const REFUSAL: u8 = 4;

/// A refused registration.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Refusal {
    /// Time of the refusal in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Thread id in the initial namespace.
    pub tid: u32,
    /// Process id in the initial namespace.
    pub tgid: u32,
    /// Name of the thread.
    pub comm: [u8; 16],
    /// The errno that the registration returned.
    pub errno: u32,
    /// As [`Pin::origin`].
    pub origin: u8,
    /// Always 0.
    pub reserved: [u8; 3],
}

impl Refusal {
    /// The pin in the event that carries this refusal.
    #[inline(always)]
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin {
            start_ns: self.at_ns,
            tid: self.tid,
            tgid: self.tgid,
            returned: -i64::from(self.errno),
            origin: self.origin,
            ended: REFUSAL,
            ..Pin::zeroed()
        }
    }

    /// The refusal in an event; `None` for other events.
    #[must_use]
    pub fn of(event: &PinEvent) -> Option<Self> {
        let PinEvent { pin, comm, .. } = event;
        (pin.ended == REFUSAL).then_some(Self {
            at_ns: pin.start_ns,
            tid: pin.tid,
            tgid: pin.tgid,
            comm: *comm,
            errno: pin.returned.unsigned_abs() as u32,
            origin: pin.origin,
            reserved: [0; 3],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder::Holder;

    #[test]
    fn an_event_carries_a_refusal() {
        let refusal = Refusal {
            at_ns: 7,
            tid: 3,
            tgid: 2,
            comm: *b"0123456789abcde\0",
            errno: 12,
            origin: 1,
            reserved: [0; 3],
        };
        let event = PinEvent {
            pin: refusal.pin(),
            comm: refusal.comm,
            holder: Holder::NONE,
        };
        assert_eq!(Refusal::of(&event), Some(refusal));
        assert_eq!(Refusal::of(&PinEvent::zeroed()), None);
    }
}
