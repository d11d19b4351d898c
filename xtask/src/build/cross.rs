//! Compiles programs for guests of another architecture: the C compiler that links, and Rust's standard
//! library for the target.
//!
//! rustup's library is used if the user has installed it. Otherwise Debian's compiler builds the programs,
//! with the library of the same version from Debian's package for the other architecture.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::build::compiler::SYSTEM_RUSTC;
use crate::cache::Cache;
use crate::child;
use crate::debian::apt::{Apt, MirrorArgs};
use crate::debian::kernels::BOOKWORM_SECURITY;

/// The package of Debian's compiler, and the one with its standard library.
const COMPILER: &str = "rustc-web";
const LIBRARY: &str = "libstd-rust-web-dev";

/// How to compile for an architecture.
pub struct Cross {
    arch: Arch,
    /// Folder with Debian's library; none if the user's compiler has one.
    sysroot: Option<PathBuf>,
}

impl Cross {
    pub fn find(arch: Arch, cache: &Cache, mirrors: &MirrorArgs) -> Result<Self> {
        let sysroot = if has_library("rustc", arch) {
            None
        } else {
            Some(fetch(arch, cache, mirrors).with_context(|| {
                format!(
                    "no standard library for {0}: run `rustup target add {0}`",
                    arch.target()
                )
            })?)
        };
        Ok(Self { arch, sysroot })
    }

    /// Sets the compiler, the linker and the flags of a build with `flags` in `RUSTFLAGS`.
    pub fn apply(&self, cargo: &mut Command, flags: &str) {
        let Self { arch, sysroot } = self;
        let target = arch.target();
        cargo.args(["--target", target]);
        let mut flags = flags.to_owned();
        if *arch != Arch::X86_64 {
            let upper = target.to_uppercase().replace('-', "_");
            cargo.env(format!("CARGO_TARGET_{upper}_LINKER"), linker(*arch));
        }
        if let Some(sysroot) = sysroot {
            cargo.env("RUSTC", SYSTEM_RUSTC);
            flags = format!("{flags} --sysroot={}", sysroot.display());
        }
        cargo.env("RUSTFLAGS", flags);
    }
}

/// The C compiler that links for an architecture other than this machine's. Build scripts with C code find
/// it by the same name.
pub fn linker(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "cc",
        Arch::Aarch64 => "aarch64-linux-gnu-gcc",
    }
}

fn has_library(rustc: &str, arch: Arch) -> bool {
    let mut command = child::command(rustc);
    command.args(["--print", "target-libdir", "--target", arch.target()]);
    child::output(&mut command).is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

/// The folder with Debian's library for its installed compiler, from the cache or from the network.
fn fetch(arch: Arch, cache: &Cache, mirrors: &MirrorArgs) -> Result<PathBuf> {
    let mut query = child::command("dpkg-query");
    query.args(["--show", "--showformat=${Version}", COMPILER]);
    let version = child::output(&mut query).with_context(|| format!("no package {COMPILER}"))?;
    let entry = format!("tools/rust-{version}{}", arch.suffix());
    let folder = cache.path(&entry);
    if folder.exists() {
        return Ok(folder);
    }
    let _lock = cache.lock(&entry)?;
    if folder.exists() {
        return Ok(folder);
    }
    let scratch = cache.scratch()?;
    let (root, made) = (scratch.path().join("root"), scratch.path().join("made"));
    fs::create_dir(&root)?;
    let apt = Apt::update(cache, BOOKWORM_SECURITY, arch, mirrors)?;
    apt.unpack(&[format!("{LIBRARY}={version}")], &root)?;
    let library = Path::new("lib/rustlib").join(arch.target());
    if !root.join("usr").join(&library).is_dir() {
        bail!("{LIBRARY} has no library for {}", arch.target());
    }
    fs::create_dir_all(made.join("lib/rustlib"))?;
    fs::rename(root.join("usr").join(&library), made.join(&library))?;
    cache.publish(&made, &entry)
}
