//! A page under writeback: the FUSE server that the disk is answers the write late.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use crate::fuse::{HeldWrites, ServedFile};
use crate::memory::mapping::Mapping;
use crate::memory::placement::{KPF_WRITEBACK, PlacementReader};
use crate::spec::page_size;

/// Puts the first page of a mapped file under writeback, which ends when the result is dropped.
pub fn start(disk: &ServedFile, file: &File, map: &mut Mapping) -> anyhow::Result<HeldWrites> {
    map.write_page(0);
    let held = disk.hold_writes(|| {
        let (fd, len) = (file.as_raw_fd(), page_size() as i64);
        // SAFETY: takes integers only.
        let started = unsafe { libc::sync_file_range(fd, 0, len, libc::SYNC_FILE_RANGE_WRITE) };
        Errno::result(started).map(drop)
    })?;
    let is_held = PlacementReader::first_page_has(map, KPF_WRITEBACK)?;
    anyhow::ensure!(is_held, "the written page is not under writeback");
    Ok(held)
}
