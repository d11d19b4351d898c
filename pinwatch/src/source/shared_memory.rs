//! BPF arrays mapped into this process, so that reading them takes no system call.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Ebpf;
use aya::maps::Map;
use memmap2::{MmapOptions, MmapRaw};

use super::error::LiveError;

/// Maps the first `entries` entries of a BPF array into this process, read-only.
pub fn share<T>(ebpf: &Ebpf, name: &'static str, entries: usize) -> Result<MmapRaw, LiveError> {
    let Some(Map::Array(map)) = ebpf.map(name) else {
        return Err(LiveError::NoMap(name));
    };
    let fd = map.fd().as_fd().as_raw_fd();
    MmapOptions::new()
        .len(entries * size_of::<T>())
        .map_raw_read_only(fd)
        .map_err(|error| LiveError::Map(name, error.to_string()))
}

/// Reads a 64-bit word of an entry. Panics outside the mapping.
pub fn word_at<T>(map: &MmapRaw, entry: usize, word: usize) -> u64 {
    const { assert!(size_of::<T>().is_multiple_of(8)) }
    let at = entry * size_of::<T>() + word * 8;
    assert!(at + 8 <= map.len());
    // SAFETY: the assertion keeps the word inside the mapping. It is aligned: the mapping is page-aligned,
    // and all sizes are multiples of 8. The kernel writes whole words, so an atomic load is enough.
    unsafe { (*map.as_ptr().add(at).cast::<AtomicU64>()).load(Ordering::Relaxed) }
}
