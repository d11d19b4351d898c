//! The compiler of the BPF programs: the same choice as pinwatch's build script makes, to know
//! which LLVM the BPF linker has to match.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::child;

const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

pub struct Compiler {
    rustc: PathBuf,
}

impl Compiler {
    /// The toolchain that `PINWATCH_EBPF_TOOLCHAIN` names, else rustup's nightly, else the
    /// system's compiler; each only with its library sources.
    pub fn find() -> Result<Option<Self>> {
        if let Ok(name) = env::var("PINWATCH_EBPF_TOOLCHAIN") {
            return match Self::rustup(&name) {
                Some(compiler) => Ok(Some(compiler)),
                None => bail!("PINWATCH_EBPF_TOOLCHAIN={name} is no toolchain with rust-src"),
            };
        }
        Ok(Self::rustup("nightly").or_else(|| {
            Self::with_sources(
                Command::new(SYSTEM_RUSTC).arg("--print=sysroot"),
                Some(SYSTEM_RUSTC),
            )
        }))
    }

    fn rustup(name: &str) -> Option<Self> {
        let mut rustup = Command::new("rustup");
        rustup
            .args(["run", name, "rustc", "--print=sysroot"])
            .env_remove("RUSTC")
            .env("RUSTUP_AUTO_INSTALL", "0");
        Self::with_sources(&mut rustup, None)
    }

    /// Asks for the sysroot and takes the compiler if the sources are there.
    fn with_sources(ask: &mut Command, rustc: Option<&str>) -> Option<Self> {
        let output = ask.output().ok().filter(|output| output.status.success())?;
        let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        let sources = sysroot
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .exists();
        sources.then(|| Self {
            rustc: rustc.map_or_else(|| sysroot.join("bin/rustc"), PathBuf::from),
        })
    }

    /// The major version of its LLVM.
    pub fn llvm_major(&self) -> Result<u32> {
        let text = child::output(child::command(&self.rustc).arg("-vV"))?;
        text.lines()
            .find_map(|line| {
                line.strip_prefix("LLVM version: ")?
                    .split('.')
                    .next()?
                    .parse()
                    .ok()
            })
            .with_context(|| format!("{} -vV names no LLVM", self.rustc.display()))
    }

    /// The shared library of its LLVM.
    pub fn llvm_library(&self) -> Result<PathBuf> {
        let text = child::output(child::command("ldd").arg(&self.rustc))?;
        find_library(&text).with_context(|| format!("{} uses no shared LLVM", self.rustc.display()))
    }
}

fn find_library(ldd: &str) -> Option<PathBuf> {
    ldd.lines().find_map(|line| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let (path, _) = rest.split_once(" (")?;
        name.starts_with("libLLVM")
            .then(|| Path::new(path).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_of_either_kind_of_compiler() {
        let debian = "\tlibc.so.6 => /lib/libc.so.6 (0x00)\n\tlibLLVM.so.22.1 => /lib/libLLVM.so.22.1 (0x00)\n";
        assert_eq!(
            find_library(debian).unwrap(),
            Path::new("/lib/libLLVM.so.22.1")
        );
        let rustup = "\tlibLLVM.so.22.1-rust-1.97.0-nightly => /r/bin/../lib/libLLVM.so.22.1-rust-1.97.0-nightly (0x0)";
        assert!(find_library(rustup).is_some());
        assert_eq!(find_library("\tlibLLVM.so.22.1 => not found\n"), None);
    }
}
