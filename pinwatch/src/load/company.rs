//! Other processes that are busy with the pages while they are pinned: one that shares them copy-on-write, or one
//! that reads them without pause. They are at it before the pin starts, and gone when this is dropped.

use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use anyhow::Context;
use libc::{c_void, iovec};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::mman::MmapAdvise;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, pipe2, read};

use super::Unavailable;
use super::mapping::Mapping;

/// A forked child, killed and reaped when dropped.
pub struct Companion(Pid);

impl Companion {
    /// A child that has a copy-on-write share of the pages and does nothing with it.
    pub fn sharing() -> anyhow::Result<Self> {
        Self::spawn(|ready| {
            report(ready, 0);
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        })
    }

    /// A child that reads the pages of this process, and shares none of them.
    pub fn reading(map: &Mapping) -> anyhow::Result<Self> {
        /// Read in one go, and therefore referenced at the same time: 1 MiB.
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
            // SAFETY: writes to `scratch` only, which is as long as any window; the kernel checks the remote addresses.
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

    /// Forks; the child lives in `body`, and the parent waits until it has reported.
    ///
    /// Other threads may run, so that `body` must only make system calls: no allocation, no locks.
    fn spawn(body: impl FnOnce(OwnedFd)) -> anyhow::Result<Self> {
        let (from_child, to_parent) = pipe2(OFlag::O_CLOEXEC)?;
        // A Yama kernel lets only ancestors read a process that has not said otherwise. Elsewhere this is EINVAL.
        // SAFETY: takes integers only.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
        // SAFETY: the child runs `body`, which makes system calls only, and never returns here.
        let companion = match unsafe { fork() }.context("fork")? {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                // SAFETY: takes integers only. Should the parent thread be killed, nobody else would end this child.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                body(to_parent);
                // SAFETY: ends this process without running what the parent has left to run.
                unsafe { libc::_exit(0) }
            }
        };
        drop(to_parent);
        let mut said = [0];
        match read(&from_child, &mut said).context("the companion process")? {
            1 if said == [0] => Ok(companion),
            1 => Err(Unavailable::because(format!(
                "another process may not read this one: {}",
                Errno::from_raw(said[0].into())
            ))),
            _ => anyhow::bail!("the companion process died"),
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Tells the parent an errno, 0 for ready, then lets go of every descriptor that the child came by: an
/// AF_XDP socket of the parent would otherwise keep its pins for as long as the child lives.
fn report(ready: OwnedFd, errno: u8) {
    // Closed below, so nobody owns it from here on.
    let fd: RawFd = ready.into_raw_fd();
    // SAFETY: writes one byte that lives until then; closes what this child, which runs no other code, does not use.
    unsafe {
        libc::write(fd, (&raw const errno).cast(), 1);
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
}
