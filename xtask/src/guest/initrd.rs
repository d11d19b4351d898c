//! Writes a guest's file system: a cpio archive in the kernel's "newc" format, uncompressed
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! All files belong to root. The folders that contain a file are made as needed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cpio::newc::{Builder, ModeFileType, trailer};

pub struct Initrd {
    out: BufWriter<File>,
    entries: u32,
    folders: HashSet<String>,
}

impl Initrd {
    pub fn create(path: &Path) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut initrd = Self {
            out: BufWriter::new(file),
            entries: 0,
            folders: HashSet::new(),
        };
        // The kernel opens it for init before anything can mount a devtmpfs.
        initrd.folder("dev")?;
        let console = initrd.entry("dev/console", ModeFileType::Char, 0o600);
        let console = console.rdev_major(5).rdev_minor(1);
        console.write(&mut initrd.out, 0).finish()?;
        Ok(initrd)
    }

    /// A folder and its parents.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        self.parents(path)?;
        // Other users may write to /tmp. Everything else in a guest runs as root.
        let mode = if path == "tmp" { 0o1777 } else { 0o755 };
        let folder = self.entry(path, ModeFileType::Directory, mode);
        folder.write(&mut self.out, 0).finish()?;
        Ok(())
    }

    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.stream(path, mode, data.len() as u64, data)
    }

    /// A file or folder of the host, with its contents and modes.
    pub fn copy(&mut self, host: &Path, path: &str) -> Result<()> {
        let meta = fs::metadata(host).with_context(|| format!("cannot read {}", host.display()))?;
        if meta.is_dir() {
            self.folder(path)?;
            for entry in fs::read_dir(host)? {
                let entry = entry?;
                let name = entry.file_name();
                let name = name
                    .to_str()
                    .with_context(|| format!("{name:?} is not UTF-8"))?;
                self.copy(&entry.path(), &format!("{path}/{name}"))?;
            }
            return Ok(());
        }
        if !meta.is_file() {
            bail!("{} is neither a file nor a folder", host.display());
        }
        let file = File::open(host).with_context(|| format!("cannot read {}", host.display()))?;
        self.stream(path, meta.permissions().mode() & 0o7777, meta.len(), file)
    }

    pub fn finish(mut self) -> Result<()> {
        trailer(&mut self.out)?;
        self.out.flush()?;
        Ok(())
    }

    fn stream(&mut self, path: &str, mode: u32, size: u64, data: impl Read) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(path)?;
        let length =
            u32::try_from(size).with_context(|| format!("{path} is too large for a guest"))?;
        let file = self.entry(path, ModeFileType::Regular, mode);
        let mut file = file.write(&mut self.out, length);
        if io::copy(&mut data.take(size), &mut file)? != size {
            bail!("{path} became shorter while it was read");
        }
        file.finish()?;
        Ok(())
    }

    /// An entry with its own inode number.
    fn entry(&mut self, path: &str, kind: ModeFileType, mode: u32) -> Builder {
        self.entries += 1;
        let entry = Builder::new(path).ino(self.entries).nlink(1).mode(mode);
        entry.set_mode_file_type(kind)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.folder(parent),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_layout() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("initrd");
        let mut initrd = Initrd::create(&path).unwrap();
        initrd.file("/a/b/c", 0o755, b"12345").unwrap();
        initrd.finish().unwrap();
        let archive = fs::read(path).unwrap();
        assert_eq!(archive.len() % 4, 0);
        let text = String::from_utf8_lossy(&archive);
        let order: Vec<_> = [
            "dev\0",
            "dev/console\0",
            "a\0",
            "a/b\0",
            "a/b/c\0",
            "12345\0\0\0",
            "TRAILER!!!\0",
        ]
        .map(|part| text.find(part).unwrap())
        .into();
        // Parents follow a folder's own name in `folder`, yet must come before it in the archive.
        assert!(order.is_sorted(), "{order:?}");
        assert!(text.contains("000081ed"), "a regular file with mode 755");
    }
}
