//! A weak pin: `process_vm_readv` pins pages without FOLL_LONGTERM, and waits before it copies them.
//!
//! It copies into a range whose first fault userfaultfd answers late. The kernel pins all pages before that fault, so
//! the pages are pinned once the fault has arrived.

use std::ops::Range;
use std::process;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use libc::iovec;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};
use nix::unistd::gettid;
use serde::Serialize;

use crate::memory::mapping::Mapping;
use crate::memory::userfault::{Stall, UNTIL_DROPPED};
use crate::spec::page_size;
use crate::sys;

/// Pages that the kernel pins before it copies the first of them (mm/process_vm_access.c).
const AT_ONCE: usize = 1024;

/// Pages that are pinned until this is dropped.
pub struct WeakPin {
    /// Dropped first: it answers the fault, and the reader ends.
    stall: Option<Stall>,
    reader: Option<JoinHandle<nix::Result<()>>>,
    tid: i32,
    started_ns: u64,
}

/// A weak pin that ended.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WeakSpan {
    /// The thread that made it.
    pub tid: i32,
    /// `CLOCK_MONOTONIC` when the pages were known to be pinned.
    pub started_ns: u64,
    /// `CLOCK_MONOTONIC` when they were known to be released.
    pub ended_ns: u64,
}

impl WeakPin {
    /// Pins `pages`. They are pinned when this returns.
    pub fn new(map: &Mapping, pages: Range<usize>) -> anyhow::Result<Self> {
        anyhow::ensure!(
            pages.len() <= AT_ONCE,
            "--hold weak pins at most {AT_ONCE} pages: use a smaller number"
        );
        let target = Mapping::anonymous(
            pages.len(),
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::empty(),
        )?;
        let (stall, faulted) = Stall::watched(&target, UNTIL_DROPPED)?;
        let from = map.address() + pages.start * page_size();
        let (sender, tid) = mpsc::channel();
        let reader = thread::spawn(move || {
            // The receiver waits for it.
            let _ = sender.send(gettid().as_raw());
            read(from, &target)
        });
        let mut pin = Self {
            stall: Some(stall),
            reader: Some(reader),
            tid: tid
                .recv()
                .context("the thread of the weak pin ended at once")?,
            started_ns: 0,
        };
        if faulted.recv().is_err() {
            let read = pin.end().transpose();
            read.context("process_vm_readv cannot pin the pages")?;
            anyhow::bail!("process_vm_readv did not wait for the page fault of its buffer");
        }
        pin.started_ns = sys::monotonic_ns();
        Ok(pin)
    }

    /// Releases the pages. They are released when this returns.
    pub fn release(mut self) -> WeakSpan {
        self.end();
        WeakSpan {
            tid: self.tid,
            started_ns: self.started_ns,
            ended_ns: sys::monotonic_ns(),
        }
    }

    fn end(&mut self) -> Option<nix::Result<()>> {
        self.stall = None;
        self.reader.take().and_then(|reader| reader.join().ok())
    }
}

impl Drop for WeakPin {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads this process' memory at `from` into `target`.
fn read(from: usize, target: &Mapping) -> nix::Result<()> {
    let iovec = |address: usize| iovec {
        iov_base: address as *mut _,
        iov_len: target.pages() * page_size(),
    };
    let (local, remote) = (iovec(target.address()), iovec(from));
    // SAFETY: writes to `target`, which nobody else uses. The kernel checks the addresses that it reads.
    let read = unsafe {
        libc::process_vm_readv(
            process::id() as i32,
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    Errno::result(read).map(drop)
}
