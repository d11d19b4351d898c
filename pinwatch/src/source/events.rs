//! Events from the ring buffer, while a follower is connected.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError, RingBuf};
use memmap2::{MmapOptions, MmapRaw};
use pinwatch_common::event_filter::Listening;
use pinwatch_common::record::PinEvent;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::LiveError;
use super::shared_memory::word_at;
use crate::host::machine::page_size;

const RING: &str = "EVENTS";
/// Map of the section that holds the global `LISTENING`.
const BSS: &str = ".bss";
const WORDS: usize = size_of::<Listening>() / 8;

/// Reader of the ring buffer, with the event filter of the BPF programs.
pub struct Events {
    ring: RingBuf<MapData>,
    listening: Array<MapData, [u64; WORDS]>,
}

impl Events {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LiveError> {
        let mut take = |name| ebpf.take_map(name).ok_or(LiveError::NoMap(name));
        let unfit = |name| move |error: MapError| LiveError::Map(name, error.to_string());
        Ok(Self {
            ring: RingBuf::try_from(take(RING)?).map_err(unfit(RING))?,
            listening: Array::try_from(take(BSS)?).map_err(unfit(BSS))?,
        })
    }

    /// Registers the ring buffer with the runtime, so that a task can wait for events.
    pub fn readable(self) -> io::Result<AsyncFd<Self>> {
        readable(self)
    }

    /// Sets the event filter. Call it when filters change, not at intervals.
    ///
    /// It calls bpf(2). If this task is preempted inside, the kernel skips kprobe programs on that CPU.
    pub fn listen(&mut self, listening: &Listening) -> Result<(), LiveError> {
        let words: [u64; WORDS] = bytemuck::cast(*listening);
        self.listening
            .set(0, words, 0)
            .map_err(|error| LiveError::Map(BSS, error.to_string()))
    }
}

/// Registers the owner of a ring buffer with the runtime.
pub(super) fn readable<T: AsRawFd>(ring: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the ring buffer owns its descriptor for as long as it lives.
    let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    Ok(registered?)
}

impl Iterator for Events {
    type Item = PinEvent;

    /// Next event in the ring buffer; `None` if it is empty for now. Never blocks.
    fn next(&mut self) -> Option<PinEvent> {
        let item = self.ring.next()?;
        bytemuck::try_pod_read_unaligned(&item).ok()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// Count of all events ever written to the ring buffer.
///
/// Derived from the kernel's producer position, so that programs pay nothing for it.
pub struct EventCount(MmapRaw);

impl EventCount {
    pub(super) fn share(ebpf: &Ebpf) -> Result<Self, LiveError> {
        // The consumer's page comes before the producer's (kernel/bpf/ringbuf.c).
        let producer_page = page_size() as u64;
        let Some(Map::RingBuf(map)) = ebpf.map(RING) else {
            return Err(LiveError::NoMap(RING));
        };
        MmapOptions::new()
            .offset(producer_page)
            .len(8)
            .map_raw_read_only(map.fd().as_fd().as_raw_fd())
            .map(Self)
            .map_err(|error| LiveError::Map(RING, error.to_string()))
    }

    /// Events since the object was loaded.
    pub fn read(&self) -> u64 {
        /// Bytes of the kernel's header before each event.
        const HEADER: usize = 8;
        const RECORD: u64 = (HEADER + size_of::<PinEvent>()) as u64;
        const { assert!(size_of::<PinEvent>().is_multiple_of(8)) }
        word_at::<u64>(&self.0, 0, 0) / RECORD
    }
}
