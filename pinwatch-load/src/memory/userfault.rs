//! Memory whose first page fault waits: a range registered with userfaultfd, and a thread that delays the answer.
//!
//! A pin of such memory waits in `handle_mm_fault`, then continues as with untouched memory. This needs a long-term path
//! that may drop the mmap lock (FOLL_UNLOCKABLE), which io_uring has on 6.12 and later. Elsewhere, as on 6.1 and before
//! and in AF_XDP, the pin fails with EFAULT at once.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::Unavailable;
use crate::memory::mapping::Mapping;
use crate::signals;
use crate::spec::page_size;

/// `struct uffdio_api`.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_range`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    len: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

nix::ioctl_readwrite!(uffdio_api, 0xaa, 0x3f, Api);
nix::ioctl_readwrite!(uffdio_register, 0xaa, 0x00, Register);
nix::ioctl_read!(uffdio_unregister, 0xaa, 0x01, Range);

const UFFD_API: u64 = 0xaa;
const MODE_MISSING: u64 = 1;

/// A pin causes its first fault within this time, or the range is released.
const FAULT_WITHIN: Duration = Duration::from_secs(60);

/// The thread that delays the faults of a range. Dropping it releases every waiting fault.
pub struct Stall {
    handler: Option<JoinHandle<()>>,
    give_up: signals::Flag,
}

impl Stall {
    pub fn new(map: &Mapping, stall_for: Duration) -> anyhow::Result<Self> {
        Self::watched(map, stall_for).map(|(stall, _)| stall)
    }

    /// As [`Stall::new`]. The receiver hears of the first fault, or is closed if none comes in time.
    pub fn watched(map: &Mapping, stall_for: Duration) -> anyhow::Result<(Self, Receiver<()>)> {
        let range = Range {
            start: map.address() as u64,
            len: (map.pages() * page_size()) as u64,
        };
        let uffd = open().map_err(|errno| match errno {
            Errno::EPERM => Unavailable::because(
                "--memory userfault needs the right to delay faults of the kernel: run it as root (CAP_SYS_PTRACE), or set vm.unprivileged_userfaultfd=1",
            ),
            Errno::ENOSYS => {
                Unavailable::because("this kernel has no userfaultfd, which --memory userfault needs: use --company hog")
            }
            errno => errno.into(),
        })?;
        let mut register = Register {
            range,
            mode: MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: the kernel reads and writes `register`. The registration ends with the range at the latest.
        unsafe { uffdio_register(uffd.as_raw_fd(), &mut register)? };
        let (fault, faulted) = mpsc::channel();
        let give_up = signals::Flag::default();
        let seen = give_up.clone();
        let handler = thread::spawn(move || {
            if wait_for_fault(&uffd, &seen) {
                // Nobody may wait for it.
                let _ = fault.send(());
            }
            signals::sleep_unless(stall_for, || seen.is_set());
            let mut range = range;
            // SAFETY: the range is registered. The kernel wakes every waiting fault and handles it as usual.
            let _ = unsafe { uffdio_unregister(uffd.as_raw_fd(), &mut range) };
        });
        let stall = Self {
            handler: Some(handler),
            give_up,
        };
        Ok((stall, faulted))
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.give_up.set();
        if let Some(handler) = self.handler.take() {
            let _ = handler.join();
        }
    }
}

fn open() -> nix::Result<OwnedFd> {
    // SAFETY: takes flags only. Without UFFD_USER_MODE_ONLY, because the faults of the kernel must wait.
    let fd = Errno::result(unsafe {
        libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK)
    })?;
    // SAFETY: the descriptor is new, and nobody else owns it.
    let uffd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut api = Api {
        api: UFFD_API,
        features: 0,
        ioctls: 0,
    };
    // SAFETY: the kernel reads and writes `api`.
    unsafe { uffdio_api(uffd.as_raw_fd(), &mut api)? };
    Ok(uffd)
}

/// Waits for the first fault, for [`FAULT_WITHIN`] at most. Returns whether it came.
fn wait_for_fault(uffd: &OwnedFd, give_up: &signals::Flag) -> bool {
    let tick = PollTimeout::try_from(signals::TICK).unwrap_or(PollTimeout::ZERO);
    let end = Instant::now() + FAULT_WITHIN;
    while !give_up.is_set() && !signals::stop_requested() && Instant::now() < end {
        let mut fds = [PollFd::new(uffd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, tick).is_ok_and(|ready| ready > 0) {
            return true;
        }
    }
    false
}
