//! Writes a guest's file system: a cpio archive in the kernel's "newc" format, uncompressed
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! All files belong to root. Folders on the way to a file are made as needed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

pub struct Initrd {
    out: BufWriter<File>,
    entries: u32,
    folders: HashSet<String>,
}

struct Header<'a> {
    path: &'a str,
    mode: u32,
    size: u64,
    device: (u32, u32),
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
        initrd.header(&Header {
            path: "dev/console",
            mode: CHARACTER | 0o600,
            size: 0,
            device: (5, 1),
        })?;
        Ok(initrd)
    }

    /// A folder with all folders above it.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        self.parents(path)?;
        // Others may write to /tmp; nowhere else does it matter in a guest where all is root.
        let mode = if path == "tmp" { 0o1777 } else { 0o755 };
        self.header(&Header {
            path,
            mode: DIRECTORY | mode,
            size: 0,
            device: (0, 0),
        })
    }

    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.stream(path, mode, data.len() as u64, data)
    }

    /// A file or a folder of the host, with everything in it and its modes.
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
        self.header(&Header {
            path: "TRAILER!!!",
            mode: 0,
            size: 0,
            device: (0, 0),
        })?;
        self.out.flush()?;
        Ok(())
    }

    fn stream(&mut self, path: &str, mode: u32, size: u64, data: impl Read) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(path)?;
        self.header(&Header {
            path,
            mode: REGULAR | mode,
            size,
            device: (0, 0),
        })?;
        if io::copy(&mut data.take(size), &mut self.out)? != size {
            bail!("{path} became shorter while it was read");
        }
        self.pad(size)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.folder(parent),
            None => Ok(()),
        }
    }

    fn header(&mut self, header: &Header<'_>) -> Result<()> {
        let Header {
            path,
            mode,
            size,
            device,
        } = header;
        let size =
            u32::try_from(*size).with_context(|| format!("{path} is too large for a guest"))?;
        self.entries += 1;
        let links = 1;
        let name = path.len() + 1;
        write!(
            self.out,
            "070701{:08x}{mode:08x}{:08x}{:08x}{links:08x}",
            self.entries, 0, 0
        )?;
        write!(self.out, "{:08x}{size:08x}{:08x}{:08x}", 0, 0, 0)?;
        write!(
            self.out,
            "{:08x}{:08x}{name:08x}{:08x}{path}\0",
            device.0, device.1, 0
        )?;
        const HEADER_LENGTH: usize = 110;
        self.pad((HEADER_LENGTH + name) as u64)
    }

    /// Header and data each end on a multiple of four bytes.
    fn pad(&mut self, length: u64) -> Result<()> {
        let missing = (4 - length % 4) % 4;
        self.out.write_all(&[0; 3][..missing as usize])?;
        Ok(())
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
