//! A page under writeback: the FUSE server answers the write late.

use std::os::fd::AsRawFd;

use nix::errno::Errno;

use crate::error::Unavailable;
use crate::fuse::{HeldWrites, ServedFile};
use crate::memory::mapping::Mapping;
use crate::memory::placement::{KPF_WRITEBACK, PlacementReader};
use crate::spec::page_size;

/// Puts the first page of the file under writeback, which ends when the result is dropped.
pub fn start(file: &ServedFile, map: &mut Mapping) -> anyhow::Result<HeldWrites> {
    map.write_page(0);
    let held = file.hold_writes(|| {
        let (fd, len) = (file.file.as_raw_fd(), page_size() as i64);
        // SAFETY: takes integers only.
        let started = unsafe { libc::sync_file_range(fd, 0, len, libc::SYNC_FILE_RANGE_WRITE) };
        Errno::result(started).map(drop)
    })?;
    match PlacementReader::first_page_has(map, KPF_WRITEBACK)? {
        true => Ok(held),
        false => Err(Unavailable::because(
            "--hold writeback needs a kernel from 6.16 on: before, FUSE writes a copy of the page, which is not under writeback itself",
        )),
    }
}
