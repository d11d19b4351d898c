//! Label values for the enum numbers that BPF programs write.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use pinwatch_common::cause;
use pinwatch_common::origin::{ioctl_type, origin_index};
use pinwatch_common::record::{CAUSE_NAMES, ORIGIN_NAMES, Origin, PHASE_NAMES, Pin};
use pinwatch_common::weak::weak_origin_name;

/// Label value of a pin's origin.
#[must_use]
pub fn origin(pin: &Pin) -> &'static str {
    ORIGIN_NAMES[origin_index(pin.origin)]
}

/// Origin of a pin as text. Unlike the label value, it has the type of an ioctl that is no known interface, such as
/// `ioctl:0xfa`.
#[must_use]
pub fn shown_origin(pin: &Pin) -> Cow<'static, str> {
    match ioctl_type(pin.origin) {
        Some(kind) => format!("{IOCTL}{kind:#04x}").into(),
        None => origin(pin).into(),
    }
}

/// Origin of a weak pin as text, as [`shown_origin`].
#[must_use]
pub fn shown_weak_origin(origin: u8) -> Cow<'static, str> {
    match ioctl_type(origin) {
        Some(kind) => format!("{IOCTL}{kind:#04x}").into(),
        None => weak_origin_name(origin).into(),
    }
}

const IOCTL: &str = "ioctl:";

/// Label value of an origin as [`shown_origin`] returns it.
#[must_use]
pub fn label_of_shown(origin: &str) -> &str {
    if origin.starts_with(IOCTL) {
        ORIGIN_NAMES[Origin::Other as usize]
    } else {
        origin
    }
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
