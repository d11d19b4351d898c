//! Single programs of Debian packages, unpacked into the cache. Nothing is installed, and no service starts.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::debian::apt::{Apt, MirrorArgs, Suite};
use crate::debian::kernels::{BOOKWORM, TRIXIE};

/// Programs of one package.
pub struct Programs {
    package: &'static str,
    suite: Suite,
    arch: Arch,
    names: &'static [&'static str],
}

/// The guest's shell and tools, statically linked.
pub const fn busybox(arch: Arch) -> Programs {
    Programs {
        package: "busybox-static",
        suite: TRIXIE,
        arch,
        names: &["busybox"],
    }
}

/// Scrapes pinwatch in tests. Needs the C library of Debian 12 or later.
pub const PROMETHEUS: Programs = Programs {
    package: "prometheus",
    suite: BOOKWORM,
    arch: Arch::X86_64,
    names: &["prometheus", "promtool"],
};

impl Programs {
    /// The folder with the programs, from the cache or from the network.
    pub fn fetch(&self, cache: &Cache, mirrors: &MirrorArgs) -> Result<PathBuf> {
        let entry = format!("programs/{}{}", self.package, self.arch.suffix());
        let folder = cache.path(&entry);
        if folder.exists() {
            return Ok(folder);
        }
        let _lock = cache.lock(&entry)?;
        if folder.exists() {
            return Ok(folder);
        }
        self.download(cache, mirrors, &entry)
            .with_context(|| format!("cannot fetch {}", self.package))
    }

    fn download(&self, cache: &Cache, mirrors: &MirrorArgs, entry: &str) -> Result<PathBuf> {
        let scratch = cache.scratch()?;
        let (root, made) = (scratch.path().join("root"), scratch.path().join("made"));
        fs::create_dir(&root)?;
        fs::create_dir(&made)?;
        let apt = Apt::update(cache, self.suite, self.arch, mirrors)?;
        apt.unpack(&[self.package.to_owned()], &root)?;
        for name in self.names {
            // Since trixie all files are below /usr.
            let found = ["usr/bin", "bin"]
                .map(|folder| root.join(folder).join(name))
                .into_iter()
                .find(|path| path.exists());
            let found = found.with_context(|| format!("the package has no {name}"))?;
            fs::copy(found, made.join(name))?;
        }
        cache.publish(&made, entry)
    }
}
