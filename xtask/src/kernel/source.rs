//! Kernel sources of Debian. Each has a folder in the cache, with the unpacked source and a build folder per architecture.
//!
//! A source stays as it was fetched until `cargo xtask kernel remove --source` deletes it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::statvfs;

use crate::arch::Arch;
use crate::cache::{Cache, Lock};
use crate::child;
use crate::debian::apt::{Apt, MirrorArgs};
use crate::debian::kernels::{self, Kernel};

/// Series whose `linux-source` package Debian has.
pub const SERIES: [&str; 5] = ["5.10", "6.1", "6.12", "7.2", "7.3"];

/// Free space for the package, the unpacked source and the build folder.
const SPACE: u64 = 5 << 30;

/// An unpacked source, locked against other xtasks.
pub struct Source {
    dir: PathBuf,
    _lock: Lock,
}

impl Source {
    /// The source from the cache, or from the network.
    pub fn open(kernel: &'static Kernel, cache: &Cache, mirrors: &MirrorArgs) -> Result<Self> {
        let series = kernel.series;
        let entry = entry(series);
        let source = Self {
            dir: cache.path(&entry),
            _lock: cache.lock(&entry)?,
        };
        if !source.tree().exists() {
            check_space(cache)?;
            fetch(kernel, cache, mirrors, &entry)
                .with_context(|| format!("cannot fetch the source of kernel {series}"))?;
        }
        Ok(source)
    }

    /// The unpacked source, with the patches of the kernel that was built last.
    pub fn tree(&self) -> PathBuf {
        self.dir.join("source")
    }

    /// Originals of the files that patches have changed in the tree.
    pub fn originals(&self) -> PathBuf {
        self.dir.join("originals")
    }

    /// The output folder of `make O=`.
    pub fn build(&self, arch: Arch) -> PathBuf {
        self.dir.join(format!("build{}", arch.suffix()))
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("make.log")
    }

    /// The number of files that the last whole build compiled.
    pub fn extent(&self, arch: Arch) -> PathBuf {
        self.dir.join(format!("extent{}", arch.suffix()))
    }

    /// Such as 5.10.262.
    pub fn version(&self) -> Result<String> {
        let makefile = fs::read_to_string(self.tree().join("Makefile"))?;
        version(&makefile).context("the kernel's Makefile has no version")
    }
}

/// Series that have been fetched.
pub fn fetched(cache: &Cache) -> Vec<&'static str> {
    let is_there = |series: &&str| cache.path(&entry(series)).join("source").exists();
    SERIES.into_iter().filter(is_there).collect()
}

/// Deletes a source and its build folders.
pub fn remove(cache: &Cache, series: &str) -> Result<()> {
    let entry = entry(series);
    let _lock = cache.lock(&entry)?;
    let dir = cache.path(&entry);
    if !dir.exists() {
        bail!("the source of kernel {series} is not here: `cargo xtask kernel list` shows what is");
    }
    fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))
}

pub fn folder(cache: &Cache, series: &str) -> PathBuf {
    cache.path(&entry(series))
}

/// Compiles a test program of a source that has been fetched, for guests: `file` in tools/testing/selftests.
pub fn selftest(series: &str, file: &str, cache: &Cache, to: &Path) -> Result<()> {
    let tests = folder(cache, series).join("source/tools/testing/selftests");
    let mut compiler = child::command("cc");
    compiler.args(["-O2", "-static", "-w", "-o"]).arg(to);
    child::run(compiler.arg(tests.join(file)))
        .with_context(|| format!("{file} of the source of kernel {series} cannot be compiled"))
}

fn entry(series: &str) -> String {
    format!("lab/{series}")
}

fn check_space(cache: &Cache) -> Result<()> {
    let root = cache.path("");
    let stat = statvfs(&root)?;
    let free = stat.f_bavail * stat.f_frsize;
    if free < SPACE {
        bail!(
            "a kernel build needs {} GiB, and {} has {:.1}: free some space, or set PINWATCH_CACHE to a folder on another disk",
            SPACE >> 30,
            root.display(),
            free as f64 / f64::from(1 << 30)
        );
    }
    Ok(())
}

fn fetch(kernel: &Kernel, cache: &Cache, mirrors: &MirrorArgs, entry: &str) -> Result<()> {
    let package = format!("linux-source-{}", kernel.series);
    let scratch = cache.scratch()?;
    let (root, made) = (scratch.path().join("root"), scratch.path().join("made"));
    fs::create_dir(&root)?;
    fs::create_dir_all(made.join("source"))?;
    for suite in kernel.suites() {
        let apt = Apt::update(cache, *suite, Arch::X86_64, mirrors)?;
        if !apt.names(&package)?.contains(&package) {
            continue;
        }
        apt.unpack(std::slice::from_ref(&package), &root)?;
        drop(apt);
        eprintln!("xtask: unpacking {package}, half a minute");
        unpack(
            &root.join(format!("usr/src/{package}.tar.xz")),
            &made.join("source"),
        )?;
        cache.publish(&made, entry)?;
        return Ok(());
    }
    bail!("Debian has no package {package} any more")
}

fn unpack(tar: &Path, to: &Path) -> Result<()> {
    child::run(
        child::command("tar")
            .arg("--extract")
            .arg("--strip-components=1")
            .arg("--directory")
            .arg(to)
            .arg("--file")
            .arg(tar),
    )
}

fn version(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        makefile.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?;
            Some(value.trim().to_owned())
        })
    };
    Some(format!(
        "{}.{}.{}{}",
        value("VERSION")?,
        value("PATCHLEVEL")?,
        value("SUBLEVEL")?,
        value("EXTRAVERSION")?
    ))
}

/// For clap: a kernel whose source Debian has.
pub fn parse(series: &str) -> Result<&'static Kernel> {
    if !SERIES.contains(&series) {
        bail!("the sources are {}", SERIES.join(", "));
    }
    kernels::parse(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let makefile =
            "# SPDX\nVERSION = 5\nPATCHLEVEL = 10\nSUBLEVEL = 262\nEXTRAVERSION =\nNAME = Dare\n";
        assert_eq!(version(makefile).unwrap(), "5.10.262");
        let candidate = makefile.replace("EXTRAVERSION =", "EXTRAVERSION = -rc7");
        assert_eq!(version(&candidate).unwrap(), "5.10.262-rc7");
        assert_eq!(version("VERSION = 5\n"), None);
    }

    #[test]
    fn every_source_is_a_kernel() {
        for series in SERIES {
            assert_eq!(parse(series).unwrap().series, series);
        }
        assert!(parse("6.18").is_err());
    }
}
