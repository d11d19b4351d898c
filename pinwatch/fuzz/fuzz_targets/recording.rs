//! Reads an untrusted recording through every command: as it is, with correct checksums, and as the bodies of
//! frames behind a valid header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwatch_fuzz::consume;
use pinwatch_fuzz::frames::{framed, repaired};

fuzz_target!(|data: &[u8]| {
    pinwatch_fuzz::count(data);
    match data.split_last() {
        Some((b'f', bodies)) => consume::recording(&framed(bodies)),
        Some((b'd', damaged)) => consume::recording(damaged),
        _ => consume::recording(&repaired(data)),
    }
});
