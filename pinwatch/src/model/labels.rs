//! Names of the numbers that BPF writes.

use pinwatch_common::fold;
use pinwatch_common::record::{CAUSE_NAMES, ORIGIN_NAMES, PHASE_NAMES, Pin};

/// The name of a pin's origin.
#[must_use]
pub fn origin(pin: &Pin) -> &'static str {
    label(&ORIGIN_NAMES, pin.origin)
}

/// The name of the phase that a pin in flight is in.
#[must_use]
pub fn phase(pin: &Pin) -> &'static str {
    label(&PHASE_NAMES, pin.phase)
}

/// Why a pin failed.
#[must_use]
pub fn cause(pin: &Pin) -> &'static str {
    CAUSE_NAMES[fold::cause(pin) as usize]
}

/// `other` for a number without a name, as in a recording of a later version.
fn label(names: &[&'static str], n: u8) -> &'static str {
    names.get(usize::from(n)).copied().unwrap_or("other")
}
