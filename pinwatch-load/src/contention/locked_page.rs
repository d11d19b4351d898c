//! A page that somebody else has locked: the FUSE server stores data in it, and waits for the data.
//!
//! The kernel locks the page of the file before it reads the data (`fuse_notify_store`), whose fault userfaultfd answers
//! late.
#![forbid(unsafe_code)]

use std::sync::mpsc::Receiver;

use anyhow::Context as _;
use nix::sys::mman::{MapFlags, ProtFlags};

use crate::fuse::ServedFile;
use crate::memory::mapping::Mapping;
use crate::memory::placement::{KPF_LOCKED, PlacementReader};
use crate::memory::userfault::Stall;

/// The first page of the file is locked until this is dropped.
pub struct LockedPage {
    stall: Stall,
    stored: Receiver<()>,
}

impl LockedPage {
    pub fn new(file: &ServedFile, map: &Mapping) -> anyhow::Result<Self> {
        let data = Mapping::anonymous(
            1,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::empty(),
        )?;
        let (stall, faulted) = Stall::until_answered(&data)?;
        let page = Self {
            stall,
            stored: file.store(data),
        };
        faulted
            .recv()
            .context("the kernel refused to store a page in the served file")?;
        let is_locked = PlacementReader::first_page_has(map, KPF_LOCKED)?;
        anyhow::ensure!(is_locked, "the stored page is not locked");
        Ok(page)
    }
}

impl Drop for LockedPage {
    fn drop(&mut self) {
        self.stall.answer();
        // Received, or the thread has ended: the page is unlocked.
        let _ = self.stored.recv();
    }
}
