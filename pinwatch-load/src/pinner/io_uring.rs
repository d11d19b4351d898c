//! io_uring fixed buffers: one long-term pin per iovec, as `io_pin_pages` makes them.

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

impl Pinner for Ring {
    fn pin(&mut self, buffer: &Buffer) -> anyhow::Result<Attempt> {
        let iovecs: Vec<iovec> = buffer.map.iovecs(pages_per_pin() * page_size()).collect();
        let (attempt, registered) = Attempt::time(|| {
            // SAFETY: the range stays mapped until after `unpin`, and no request uses it.
            unsafe { self.ring.submitter().register_buffers(&iovecs) }
                .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
        });
        self.registered = registered.is_some();
        Ok(attempt)
    }

    fn unpin(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.registered) {
            self.ring.submitter().unregister_buffers()?;
        }
        Ok(())
    }
}
