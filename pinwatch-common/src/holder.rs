//! Holder of a weak pin, as events carry it.

use bytemuck::{Pod, Zeroable};

/// Holder of a weak pin. All zeroes: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Holder {
    /// Return of the weak pin in nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Nanoseconds from the return of the weak pin until the folio was in the way of a migration.
    pub held_ns: u64,
    /// Thread id in the initial namespace.
    pub tid: u32,
    /// Process id in the initial namespace.
    pub tgid: u32,
    /// Thread name, NUL-padded. The process chooses these bytes.
    pub comm: [u8; 16],
    /// An [`Origin`](crate::record::Origin), [`PROCESS_VM`](crate::record::PROCESS_VM), or the type of an ioctl.
    pub origin: u8,
    /// Always 0.
    pub reserved: [u8; 7],
}

impl Holder {
    /// No holder.
    pub const NONE: Self = Self {
        start_ns: 0,
        held_ns: 0,
        tid: 0,
        tgid: 0,
        comm: [0; 16],
        origin: 0,
        reserved: [0; 7],
    };

    /// Whether there is a holder.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        self.start_ns != 0
    }
}
