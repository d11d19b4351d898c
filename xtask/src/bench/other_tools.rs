//! Other tools that run in guests, from Debian's packages: their programs, and the libraries that these load.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::child;
use crate::debian::apt::{Apt, MirrorArgs};
use crate::debian::kernels::TRIXIE;
use crate::guest::Placed;

/// Tools for one guest.
pub struct ToolSet {
    /// Its name in the cache.
    entry: &'static str,
    packages: &'static [&'static str],
    programs: &'static [&'static str],
}

/// Tools to compare pinwatch's overhead with.
pub const COMPARED: ToolSet = ToolSet {
    entry: "peers",
    packages: &["bpftrace", "libbpf-tools"],
    programs: &["usr/bin/bpftrace", "usr/sbin/funclatency-libbpf"],
};

/// Tools that run beside pinwatch.
pub const NEIGHBOURS: ToolSet = ToolSet {
    entry: "neighbours",
    packages: &["bpftrace", "linux-perf"],
    programs: &["usr/bin/bpftrace", "usr/bin/perf"],
};

/// Pins registered buffers through io_uring.
pub const FIO: ToolSet = ToolSet {
    entry: "fio",
    packages: &["fio"],
    programs: &["usr/bin/fio"],
};

const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The tools on this disk.
pub struct OtherTools {
    dir: PathBuf,
    /// Names and versions of the packages.
    pub versions: String,
}

impl OtherTools {
    /// The tools from the cache or from the network.
    pub fn fetch(set: &ToolSet, cache: &Cache, mirrors: &MirrorArgs) -> Result<Self> {
        if let Ok(other_tools) = Self::open(cache.path(set.entry)) {
            return Ok(other_tools);
        }
        let _lock = cache.lock(set.entry)?;
        if let Ok(other_tools) = Self::open(cache.path(set.entry)) {
            return Ok(other_tools);
        }
        let scratch = cache.scratch()?;
        let made = download(set, cache, mirrors, scratch.path())
            .with_context(|| format!("cannot fetch {}", set.packages.join(" and ")))?;
        Self::open(cache.publish(&made, set.entry)?)
    }

    fn open(dir: PathBuf) -> Result<Self> {
        let versions = fs::read_to_string(dir.join("versions"))?;
        Ok(Self { dir, versions })
    }

    /// All files, in their usual places.
    pub fn placed(&self) -> Vec<Placed> {
        let folders = ["usr/bin", "usr/sbin", "lib64", LIBRARIES].into_iter();
        let placed = folders.map(|folder| Placed {
            host: self.dir.join("root").join(folder),
            guest: format!("/{folder}"),
        });
        placed.filter(|placed| placed.host.exists()).collect()
    }
}

fn download(set: &ToolSet, cache: &Cache, mirrors: &MirrorArgs, scratch: &Path) -> Result<PathBuf> {
    let (root, made) = (scratch.join("unpacked"), scratch.join("made"));
    fs::create_dir(&root)?;
    let apt = Apt::update(cache, TRIXIE, Arch::X86_64, mirrors)?;
    let packages = apt.with_dependencies(set.packages)?;
    let names: Vec<_> = packages.iter().map(|(name, _)| name.clone()).collect();
    apt.unpack(&names, &root)?;
    for program in set.programs {
        take(&root, program, &made)?;
        for library in libraries(&root, program)? {
            take(&root, &library, &made)?;
        }
    }
    let loader = root.join("usr").join(LOADER);
    copy(&loader, &made.join("root").join(LOADER))?;
    let versions: Vec<_> = packages
        .iter()
        .filter(|(name, _)| set.packages.contains(&name.as_str()))
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    fs::write(made.join("versions"), versions.join(", "))?;
    Ok(made)
}

/// The libraries below `root` that the dynamic loader loads for a program.
fn libraries(root: &Path, program: &str) -> Result<Vec<String>> {
    let folder = root.join(LIBRARIES);
    let folder = folder.to_str().context("the cache's path is not UTF-8")?;
    let list = child::output(
        child::command(root.join("usr").join(LOADER))
            .args(["--inhibit-cache", "--library-path"])
            // Ceph's libraries name their own folder by its absolute path.
            .arg(format!("{folder}:{folder}/ceph"))
            .arg("--list")
            .arg(root.join(program)),
    )?;
    let names = list.lines().filter_map(|line| {
        let (_, path) = line.split_once(" => ")?;
        let path = path.split(" (").next()?.strip_prefix(folder)?;
        Some(format!("{LIBRARIES}{path}"))
    });
    Ok(names.collect())
}

fn take(root: &Path, file: &str, made: &Path) -> Result<()> {
    copy(&root.join(file), &made.join("root").join(file))
}

/// Copies a file; follows a symbolic link.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("no folder")?)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}
