//! Reads an untrusted recording through every command: as it is, with correct checksums, and as the bodies of
//! frames behind a valid header.
#![forbid(unsafe_code)]

use crate::consume;
use crate::frames::{framed, repaired};

/// Feeds one input.
pub fn run(data: &[u8]) {
    match data.split_last() {
        Some((b'f', bodies)) => consume::recording(&framed(bodies)),
        Some((b'd', damaged)) => consume::recording(damaged),
        _ => consume::recording(&repaired(data)),
    }
}
