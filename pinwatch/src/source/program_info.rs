//! Statistics that the kernel keeps of each program, from `/proc/self/fdinfo`. The files are opened once: the kernel
//! gives them to root if the daemon changes its user.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;

use aya::Ebpf;

/// The open files, by program.
pub struct ProgramInfo(BTreeMap<String, File>);

impl ProgramInfo {
    /// Opens the files of all loaded programs. A file that cannot be opened is left out.
    pub fn open(ebpf: &Ebpf) -> Self {
        let files = ebpf.programs().filter_map(|(name, program)| {
            let fd = program.fd().ok()?.as_fd().as_raw_fd();
            let file = File::open(format!("/proc/self/fdinfo/{fd}")).ok()?;
            Some((name.to_owned(), file))
        });
        Self(files.collect())
    }

    /// Text of a program's file.
    pub fn read(&self, program: &str) -> Option<String> {
        // Larger than any of these files, whose lines the kernel fixes.
        let mut bytes = [0; 4096];
        let read = self.0.get(program)?.read_at(&mut bytes, 0).ok()?;
        Some(String::from_utf8_lossy(&bytes[..read]).into_owned())
    }
}

/// A number of such a file.
pub fn fdinfo_field(fdinfo: &str, key: &str) -> Option<u64> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::fdinfo_field;

    #[test]
    fn fields_of_fdinfo() {
        let text = "pos:\t0\nprog_id:\t7\nrun_cnt:\t12\nrecursion_misses:\t3\n";
        assert_eq!(fdinfo_field(text, "recursion_misses:"), Some(3));
        assert_eq!(fdinfo_field(text, "verified_insns:"), None);
    }
}
