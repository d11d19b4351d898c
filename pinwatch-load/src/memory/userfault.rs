//! Memory whose first page fault waits: a range registered with userfaultfd, and a thread that delays the answer.
//!
//! A pin of such memory waits in `handle_mm_fault`, then continues as with untouched memory. This needs a long-term path
//! that may drop the mmap lock (FOLL_UNLOCKABLE), which io_uring has on 6.12 and later. Elsewhere, as on 6.1 and before
//! and in AF_XDP, the pin fails with EFAULT at once.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, Sender};
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
nix::ioctl_readwrite!(uffdio_zeropage, 0xaa, 0x04, ZeroPages);

/// `struct uffdio_zeropage`.
#[repr(C)]
struct ZeroPages {
    range: Range,
    mode: u64,
    zeroed: i64,
}

const UFFD_API: u64 = 0xaa;
const MODE_MISSING: u64 = 1;

/// Longer than any load runs.
pub const UNTIL_DROPPED: Duration = Duration::from_secs(1 << 30);

/// A pin causes its first fault within this time, or the range is released.
const FAULT_WITHIN: Duration = Duration::from_secs(60);

/// The thread that delays the faults of a range. Dropping it releases every waiting fault.
pub struct Stall {
    handler: Option<JoinHandle<()>>,
    give_up: signals::Flag,
    /// Closed when this is dropped.
    registered: Option<Sender<()>>,
}

/// How a fault is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// As without userfaultfd. It waits for threads inside the kernel that hold the mmap lock.
    AsUsual,
    /// With the zero page. The registration stays until the stall is dropped, since its end waits for that lock.
    ZeroPage,
}

impl Stall {
    pub fn new(map: &Mapping, stall_for: Duration) -> anyhow::Result<Self> {
        Self::watched(map, stall_for).map(|(stall, _)| stall)
    }

    /// As [`Stall::new`]. The receiver hears of the first fault, or is closed if none comes in time.
    pub fn watched(map: &Mapping, stall_for: Duration) -> anyhow::Result<(Self, Receiver<()>)> {
        Self::start(map, stall_for, Answer::AsUsual)
    }

    /// Delays the faults until [`Stall::answer`], also while another thread waits in the kernel with the mmap lock.
    pub fn until_answered(map: &Mapping) -> anyhow::Result<(Self, Receiver<()>)> {
        Self::start(map, UNTIL_DROPPED, Answer::ZeroPage)
    }

    /// Answers the faults. The range stays registered until this is dropped.
    pub fn answer(&self) {
        self.give_up.set();
    }

    fn start(
        map: &Mapping,
        stall_for: Duration,
        answer: Answer,
    ) -> anyhow::Result<(Self, Receiver<()>)> {
        let range = Range {
            start: map.address() as u64,
            len: (map.pages() * page_size()) as u64,
        };
        let uffd = open().map_err(|errno| match errno {
            Errno::EPERM => Unavailable::because(
                "userfaultfd needs the right to delay faults of the kernel: run this load as root (CAP_SYS_PTRACE), or set vm.unprivileged_userfaultfd=1",
            ),
            Errno::ENOSYS => {
                Unavailable::because("this kernel has no userfaultfd, which this load needs: use --company hog")
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
        let (registered, is_registered) = mpsc::channel::<()>();
        let give_up = signals::Flag::default();
        let seen = give_up.clone();
        let handler = thread::spawn(move || {
            if wait_for_fault(&uffd, &seen) {
                // Nobody may wait for it.
                let _ = fault.send(());
            }
            signals::sleep_unless(stall_for, || seen.is_set());
            if answer == Answer::ZeroPage {
                let mut zero = ZeroPages {
                    range,
                    mode: 0,
                    zeroed: 0,
                };
                // SAFETY: the range is registered, and its pages are missing. The kernel reads and writes `zero`.
                let _ = unsafe { uffdio_zeropage(uffd.as_raw_fd(), &mut zero) };
                // The range stays registered until the other end, which sends nothing, is dropped.
                let _ = is_registered.recv();
            }
            let mut range = range;
            // SAFETY: the range is registered. The kernel wakes every waiting fault and handles it as usual.
            let _ = unsafe { uffdio_unregister(uffd.as_raw_fd(), &mut range) };
        });
        let stall = Self {
            handler: Some(handler),
            give_up,
            registered: Some(registered),
        };
        Ok((stall, faulted))
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.give_up.set();
        self.registered = None;
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
