//! Memory whose first fault waits: a range registered with userfaultfd, and a thread that leaves it unanswered.
//!
//! A pin of such memory sits in `handle_mm_fault` until the time is over, then goes on as if the memory were
//! plain and untouched. It takes a long-term path that may drop the mmap lock (FOLL_UNLOCKABLE): io_uring on 6.12 and
//! later has one. Elsewhere, as on 6.1 and before and in AF_XDP, a fault that would have to wait is EFAULT at once.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Unavailable;
use crate::memory::mapping::Mapping;
use crate::plan::PAGE;
use crate::sys;

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

/// The thread that stalls a range; dropping it releases whoever waits.
pub struct Stall {
    handler: Option<JoinHandle<()>>,
    give_up: sys::Flag,
}

impl Stall {
    pub fn new(map: &Mapping, stall_for: Duration) -> anyhow::Result<Self> {
        let range = Range {
            start: map.address() as u64,
            len: (map.pages() * PAGE) as u64,
        };
        let uffd = open().map_err(|errno| match errno {
            Errno::EPERM => Unavailable::because(
                "--memory userfault needs root (CAP_SYS_PTRACE) or vm.unprivileged_userfaultfd=1",
            ),
            Errno::ENOSYS => {
                Unavailable::because("--memory userfault: this kernel has no userfaultfd")
            }
            errno => errno.into(),
        })?;
        let mut register = Register {
            range,
            mode: MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: `register` is what the kernel reads and writes. The registration goes with the range at the latest.
        unsafe { uffdio_register(uffd.as_raw_fd(), &mut register)? };
        let give_up = sys::Flag::default();
        let seen = give_up.clone();
        let handler = thread::spawn(move || {
            wait_for_fault(&uffd, &seen);
            let released = Instant::now() + stall_for;
            while Instant::now() < released && !seen.is_set() && !sys::stop_requested() {
                thread::sleep(sys::TICK.min(released.saturating_duration_since(Instant::now())));
            }
            let mut range = range;
            // SAFETY: the range was registered above. All who wait are woken, and their faults served as usual.
            let _ = unsafe { uffdio_unregister(uffd.as_raw_fd(), &mut range) };
        });
        Ok(Self {
            handler: Some(handler),
            give_up,
        })
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
    // SAFETY: takes flags only. Not UFFD_USER_MODE_ONLY: it is the kernel's own faults that are to wait.
    let fd = Errno::result(unsafe {
        libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK)
    })?;
    // SAFETY: the descriptor is new and nobody else's.
    let uffd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut api = Api {
        api: UFFD_API,
        features: 0,
        ioctls: 0,
    };
    // SAFETY: `api` is what the kernel reads and writes.
    unsafe { uffdio_api(uffd.as_raw_fd(), &mut api)? };
    Ok(uffd)
}

fn wait_for_fault(uffd: &OwnedFd, give_up: &sys::Flag) {
    let tick = PollTimeout::try_from(sys::TICK).unwrap_or(PollTimeout::ZERO);
    while !give_up.is_set() && !sys::stop_requested() {
        let mut fds = [PollFd::new(uffd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, tick).is_ok_and(|ready| ready > 0) {
            return;
        }
    }
}
