//! The compiler of the BPF programs, found as pinwatch's build script finds it, and its LLVM.

#[path = "../../../pinwatch/build/compiler.rs"]
#[allow(dead_code, reason = "the build script uses the rest")]
mod found;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use self::found::{Compiler, SYSTEM_RUSTC, cache_folder, linker_folder};
use crate::child;

/// The shared library of a compiler's LLVM.
pub fn llvm_library(compiler: &Compiler) -> Result<PathBuf> {
    let rustc = &compiler.rustc;
    let text = child::output(child::command("ldd").arg(rustc))?;
    find_library(&text).with_context(|| format!("{} uses no shared LLVM", rustc.display()))
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
