//! Ended pins from the ring buffer, while somebody listens.

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

const RING: &str = "EVENTS";
/// Where the compiler puts `LISTENING`.
const BSS: &str = ".bss";
const WORDS: usize = size_of::<Listening>() / 8;

/// The reader's end of the ring buffer, and the switch that makes pins come.
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

    /// Registers the ring buffer with the runtime, to wait until it has events.
    pub fn readable(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the ring buffer owns its descriptor and keeps it for its life.
        let registered = unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) };
        Ok(registered?)
    }

    /// Sets which pins come. A bpf(2) call: kprobes that hit its CPU while that is
    /// preempted inside the call are skipped, so call it when filters change, not
    /// at intervals.
    pub fn listen(&mut self, listening: &Listening) -> Result<(), LiveError> {
        let words: [u64; WORDS] = bytemuck::cast(*listening);
        self.listening
            .set(0, words, 0)
            .map_err(|error| LiveError::Map(BSS, error.to_string()))
    }
}

impl Iterator for Events {
    type Item = PinEvent;

    /// The next event that waits, if any. Never blocks; there may be more later.
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

/// How many records were ever put into the ring buffer, by the kernel's own
/// position in it: counting costs the programs nothing.
pub struct Sent(MmapRaw);

impl Sent {
    pub(super) fn share(ebpf: &Ebpf) -> Result<Self, LiveError> {
        /// The consumer's page comes first (kernel/bpf/ringbuf.c).
        const PRODUCER_PAGE: u64 = 4096;
        let Some(Map::RingBuf(map)) = ebpf.map(RING) else {
            return Err(LiveError::NoMap(RING));
        };
        MmapOptions::new()
            .offset(PRODUCER_PAGE)
            .len(8)
            .map_raw_read_only(map.fd().as_fd().as_raw_fd())
            .map(Self)
            .map_err(|error| LiveError::Map(RING, error.to_string()))
    }

    pub fn records(&self) -> u64 {
        /// Before each record.
        const HEADER: usize = 8;
        const RECORD: u64 = (HEADER + size_of::<PinEvent>()) as u64;
        const { assert!(size_of::<PinEvent>().is_multiple_of(8)) }
        word_at::<u64>(&self.0, 0, 0) / RECORD
    }
}
