//! Finds the compiler of the BPF programs. A part of both pinwatch's build script, which compiles them,
//! and xtask, which builds the linker for the compiler's LLVM.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Debian's compiler (rustc-web, rust-web-src).
pub const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that has its library sources, which `-Z build-std` needs.
pub struct Compiler {
    pub rustc: PathBuf,
    /// None: the system's stable compiler, which must be told to accept `-Z build-std`.
    pub rustup_name: Option<String>,
}

impl Compiler {
    /// The rustup toolchain that `PINWATCH_EBPF_TOOLCHAIN` names, else rustup's nightly, else the system's
    /// compiler. None where no compiler has its library sources.
    pub fn find() -> Result<Option<Self>> {
        if let Ok(name) = env::var("PINWATCH_EBPF_TOOLCHAIN") {
            return match Self::rustup(&name) {
                Some(compiler) => Ok(Some(compiler)),
                None => bail!(
                    "PINWATCH_EBPF_TOOLCHAIN={name}: no such toolchain, or it lacks rust-src: run \
                     `rustup toolchain install {name} --component rust-src`"
                ),
            };
        }
        Ok(Self::rustup("nightly").or_else(Self::system))
    }

    fn rustup(name: &str) -> Option<Self> {
        let mut rustup = Command::new("rustup");
        rustup
            .args(["run", name, "rustc"])
            .env_remove("RUSTC")
            .env("RUSTUP_AUTO_INSTALL", "0");
        Some(Self {
            rustc: sysroot_with_sources(rustup)?.join("bin/rustc"),
            rustup_name: Some(name.to_owned()),
        })
    }

    fn system() -> Option<Self> {
        sysroot_with_sources(Command::new(SYSTEM_RUSTC))?;
        Some(Self {
            rustc: SYSTEM_RUSTC.into(),
            rustup_name: None,
        })
    }

    /// The major version of its LLVM, which the BPF linker must have too.
    pub fn llvm_major(&self) -> Result<u32> {
        let rustc = self.rustc.display();
        let output = Command::new(&self.rustc)
            .arg("-vV")
            .output()
            .with_context(|| format!("cannot start {rustc}"))?;
        let text = String::from_utf8(output.stdout)?;
        let major = text.lines().find_map(|line| {
            let version = line.strip_prefix("LLVM version: ")?;
            version.split('.').next()?.parse().ok()
        });
        major.with_context(|| format!("{rustc} -vV names no LLVM version"))
    }
}

/// The sysroot of a rustc, if it contains the library sources.
fn sysroot_with_sources(mut rustc: Command) -> Option<PathBuf> {
    let output = rustc.arg("--print=sysroot").output().ok()?;
    if !output.status.success() {
        return None;
    }
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let sources = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    sources.exists().then_some(sysroot)
}

/// xtask's folder for tools and kernels: `$PINWATCH_CACHE`, else `$XDG_CACHE_HOME/pinwatch`, else
/// `$HOME/.cache/pinwatch`.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|value: &OsString| !value.is_empty())
            .map(PathBuf::from)
    };
    set("PINWATCH_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("pinwatch")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/pinwatch")))
}

/// Where `cargo xtask setup` installs the BPF linker for a version of LLVM.
pub fn linker_folder(cache: &Path, llvm_major: u32) -> PathBuf {
    cache.join(format!("tools/llvm-{llvm_major}"))
}
