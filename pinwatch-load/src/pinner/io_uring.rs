//! io_uring fixed buffers: one long-term pin per iovec, as `io_pin_pages` makes them.

use std::io;

use io_uring::IoUring;
use libc::iovec;
use nix::errno::Errno;

use super::attempt::{Attempt, Pinner};
use crate::error::Unavailable;
use crate::memory::buffer::Buffer;
use crate::spec::page_size;

/// The kernel takes at most 1 GiB per iovec (`io_buffer_validate`).
pub fn pages_per_pin() -> usize {
    (1 << 30) / page_size()
}

/// A ring of the smallest size. The kernel allocates its memory, so the ring itself pins nothing.
pub struct Ring {
    ring: IoUring,
    registered: bool,
}

impl Ring {
    pub fn open() -> anyhow::Result<Self> {
        match IoUring::new(1) {
            Ok(ring) => Ok(Self { ring, registered: false }),
            Err(error) => Err(Unavailable::because(match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOSYS) => "this kernel has no io_uring: use --via xdp".to_owned(),
                Some(Errno::EPERM) => "this process may not use io_uring (sysctl kernel.io_uring_disabled, or a seccomp filter): use --via xdp".to_owned(),
                _ => format!("io_uring_setup failed ({error}): use --via xdp"),
            })),
        }
    }
}

impl Ring {
    /// Registers pieces of mapped memory, which stay mapped until after [`Ring::unregister`].
    pub fn register(&mut self, pieces: &[iovec]) -> Result<(), Errno> {
        // SAFETY: the kernel checks the addresses, and no request uses the buffers.
        unsafe { self.ring.submitter().register_buffers(pieces) }
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        self.registered = true;
        Ok(())
    }

    /// Unregisters the buffers, if there are any.
    pub fn unregister(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.registered) {
            true => self.ring.submitter().unregister_buffers(),
            false => Ok(()),
        }
    }
}

impl Pinner for Ring {
    fn pin(&mut self, buffer: &Buffer) -> anyhow::Result<Attempt> {
        let pieces: Vec<iovec> = buffer.map.iovecs(pages_per_pin() * page_size()).collect();
        let (attempt, _) = Attempt::time(|| self.register(&pieces));
        Ok(attempt)
    }

    fn unpin(&mut self) -> anyhow::Result<()> {
        Ok(self.unregister()?)
    }
}
