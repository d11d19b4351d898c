//! Short-term pins by O_DIRECT reads and process_vm_readv. They end with their system call, and no metric of pinwatch
//! may change.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::{env, process};

use libc::iovec;
use nix::errno::Errno;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::attempt::{Attempt, Pinner};
use crate::error::Unavailable;
use crate::memory::buffer::Buffer;
use crate::plan::Plan;
use crate::spec::page_size;

/// Bytes that one system call reads.
const PIECE: usize = 1 << 20;

/// Disks to read where temporary files do not support O_DIRECT.
const DISKS: &[&str] = &["/dev/vda", "/dev/sda", "/dev/ram0", "/dev/loop0"];

/// Reads a file into the buffer without the page cache.
pub struct DirectRead {
    file: File,
    /// Bytes per read. Every read starts at the beginning of the file.
    piece: usize,
}

impl DirectRead {
    pub fn open(plan: &Plan) -> anyhow::Result<Self> {
        match &plan.file {
            Some(path) => Self::of(path)
                .map_err(|error| Unavailable::because(format!("cannot read {} with O_DIRECT: {error}", path.display()))),
            None => temporary_file().or_else(|| DISKS.iter().find_map(|path| Self::of(path.as_ref()).ok())).ok_or_else(|| {
                Unavailable::because(format!(
                    "neither a file in {} nor a disk supports O_DIRECT: give --file, or use --via process_vm",
                    env::temp_dir().display()
                ))
            }),
        }
    }

    fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        let len = file.seek(SeekFrom::End(0))? as usize;
        match len.min(PIECE) / page_size() * page_size() {
            0 => Err(io::Error::other("the file is shorter than a page")),
            piece => Ok(Self { file, piece }),
        }
    }
}

impl Pinner for DirectRead {
    fn pin(&mut self, buffer: &Buffer) -> anyhow::Result<Attempt> {
        let fd = self.file.as_raw_fd();
        let (attempt, _) = Attempt::time(|| {
            buffer.map.iovecs(self.piece).try_for_each(|piece| {
                // SAFETY: writes a piece of the mapped range, which nobody in this process reads or writes meanwhile.
                Errno::result(unsafe { libc::pread(fd, piece.iov_base, piece.iov_len, 0) })
                    .map(drop)
            })
        });
        Ok(attempt)
    }

    fn unpin(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A file without a name. Returns None on tmpfs, which accepts O_DIRECT from 6.6 on but copies and pins nothing.
fn temporary_file() -> Option<DirectRead> {
    let path = env::temp_dir().join(format!("pinwatch-load-{}", process::id()));
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .ok()?;
    let read = file
        .write_all(&vec![1; PIECE])
        .and_then(|()| DirectRead::of(&path));
    let _ = fs::remove_file(&path);
    read.ok()
        .filter(|read| fstatfs(&read.file).is_ok_and(|stat| stat.filesystem_type() != TMPFS_MAGIC))
}

/// Reads the buffer as if another process owned it.
pub struct ReadOwnMemory {
    scratch: Vec<u8>,
}

impl Default for ReadOwnMemory {
    fn default() -> Self {
        Self {
            scratch: vec![0; PIECE],
        }
    }
}

impl Pinner for ReadOwnMemory {
    fn pin(&mut self, buffer: &Buffer) -> anyhow::Result<Attempt> {
        let pid = process::id() as i32;
        let (attempt, _) = Attempt::time(|| {
            buffer.map.iovecs(PIECE).try_for_each(|remote| {
                let local = iovec {
                    iov_base: self.scratch.as_mut_ptr().cast(),
                    iov_len: remote.iov_len,
                };
                // SAFETY: writes to `scratch`, which is as long as any piece.
                Errno::result(unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) })
                    .map(drop)
            })
        });
        Ok(attempt)
    }

    fn unpin(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}
