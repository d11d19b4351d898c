//! Other processes that use the pages during the pin: one shares them copy-on-write, one reads them continuously.
//! They start before the pin.

use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use anyhow::Context;
use libc::{c_void, iovec};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::mman::MmapAdvise;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, pipe2, read};

use crate::error::Unavailable;
use crate::memory::mapping::Mapping;

/// A forked child, killed and reaped when dropped.
pub struct ContendingProcess(Pid);

impl ContendingProcess {
    /// A child that shares the pages copy-on-write and never touches them.
    pub fn sharing() -> anyhow::Result<Self> {
        Self::spawn(|ready| {
            report(ready, 0);
            loop {
                // SAFETY: takes nothing and waits for a signal.
                unsafe { libc::pause() };
            }
        })
    }

    /// A child that reads the pages of this process continuously, and shares none of them.
    pub fn reading(map: &Mapping) -> anyhow::Result<Self> {
        /// Bytes per system call, whose pages are referenced at the same time.
        const WINDOW: usize = 1 << 20;
        map.advise(MmapAdvise::MADV_DONTFORK)?;
        let parent = getpid().as_raw();
        let mut scratch = vec![0u8; WINDOW];
        let windows: Vec<iovec> = map.iovecs(WINDOW).collect();
        let mut read = move |remote: &iovec| {
            let local = iovec {
                iov_base: scratch.as_mut_ptr().cast::<c_void>(),
                iov_len: remote.iov_len,
            };
            // SAFETY: writes to `scratch` only, which is as long as any window. The kernel checks the remote addresses.
            Errno::result(unsafe { libc::process_vm_readv(parent, &local, 1, remote, 1, 0) })
        };
        Self::spawn(|ready| {
            let first = read(&windows[0]);
            report(ready, first.err().map_or(0, |errno| errno as u8));
            loop {
                for window in &windows {
                    let _ = read(window);
                }
            }
        })
    }

    /// Forks. The child runs `body`, and the parent waits until `body` has called [`report`].
    ///
    /// Other threads may exist, so `body` may only make system calls: no allocation, no locks.
    fn spawn(body: impl FnOnce(OwnedFd)) -> anyhow::Result<Self> {
        let (from_child, to_parent) = pipe2(OFlag::O_CLOEXEC)?;
        // Yama lets only ancestors read a process, unless that process permits it. Without Yama this is EINVAL.
        // SAFETY: takes integers only.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
        // SAFETY: the child runs `body`, which makes system calls only, and never returns from here.
        let process = match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                // SAFETY: takes integers only. It ends this child if the parent thread is killed.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                body(to_parent);
                // SAFETY: ends this process without running the destructors and exit handlers of the parent.
                unsafe { libc::_exit(0) }
            }
        };
        drop(to_parent);
        let mut errno = [0];
        match read(&from_child, &mut errno).context("cannot read from the contending process")? {
            1 if errno == [0] => Ok(process),
            1 => Err(Unavailable::because(format!(
                "another process may not read this one ({}): run it as root (CAP_SYS_PTRACE)",
                Errno::from_raw(errno[0].into())
            ))),
            _ => anyhow::bail!("the contending process died"),
        }
    }
}

impl Drop for ContendingProcess {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Reports an errno to the parent, 0 for ready. Then closes every inherited descriptor: an AF_XDP socket of the parent
/// would otherwise keep its pins while the child lives.
fn report(ready: OwnedFd, errno: u8) {
    // Closed below, so nobody owns it from here on.
    let fd: RawFd = ready.into_raw_fd();
    // SAFETY: writes one byte that lives until the call returns. Closes descriptors that this child never uses again.
    unsafe {
        libc::write(fd, (&raw const errno).cast(), 1);
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
}
