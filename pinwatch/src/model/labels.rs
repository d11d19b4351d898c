//! Label values for the enum numbers that BPF programs write.
#![forbid(unsafe_code)]

use pinwatch_common::cause;
use pinwatch_common::record::{CAUSE_NAMES, ORIGIN_NAMES, PHASE_NAMES, Pin};

/// Label value of a pin's origin.
#[must_use]
pub fn origin(pin: &Pin) -> &'static str {
    label(&ORIGIN_NAMES, pin.origin)
}

/// Label value of the running phase of a pin in flight.
#[must_use]
pub fn phase(pin: &Pin) -> &'static str {
    label(&PHASE_NAMES, pin.phase)
}

/// Label value of the cause of a failed pin.
#[must_use]
pub fn cause(pin: &Pin) -> &'static str {
    CAUSE_NAMES[cause::cause(pin) as usize]
}

/// Name at index `n`. A number without a name, as in a recording of a later version, is `other`.
fn label(names: &[&'static str], n: u8) -> &'static str {
    names.get(usize::from(n)).copied().unwrap_or("other")
}
