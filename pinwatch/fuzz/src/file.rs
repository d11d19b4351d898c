//! A file in memory, for code that takes a path.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// The file. Dropping it frees its memory.
pub struct MemoryFile(File);

impl MemoryFile {
    /// Makes a file with this content.
    #[must_use]
    pub fn new(content: &[u8]) -> Self {
        let file = memfd_create("fuzz", MFdFlags::MFD_CLOEXEC).expect("a file in memory");
        let mut file = File::from(file);
        file.write_all(content).expect("written");
        Self(file)
    }

    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}
