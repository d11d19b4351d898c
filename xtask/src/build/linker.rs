//! Builds the BPF linker from source into the cache, one per version of LLVM.
//!
//! Needs no LLVM development package: a folder with a link `libLLVM.so` to the compiler's own shared library
//! is enough.

use std::env;
use std::fs;
use std::iter;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::build::compiler::{Compiler, linker_folder, llvm_library};
use crate::cache::Cache;
use crate::child;

const VERSION: &str = "0.13.0";
/// Versions of LLVM that this bpf-linker supports.
const LLVMS: [u32; 3] = [21, 22, 23];

/// The place of one linker, and the LLVM library that it links to.
struct Linker {
    entry: String,
    root: PathBuf,
    major: u32,
    library: PathBuf,
}

pub fn is_ready(cache: &Cache, compiler: &Compiler) -> Result<bool> {
    Ok(Linker::of(cache, compiler)?.is_ready())
}

/// Builds the linker for a compiler if it is missing. pinwatch's build script finds it in the cache.
pub fn ensure(cache: &Cache, compiler: &Compiler) -> Result<()> {
    let linker = Linker::of(cache, compiler)?;
    if linker.is_ready() {
        return Ok(());
    }
    let _lock = cache.lock(&linker.entry)?;
    if linker.is_ready() {
        Ok(())
    } else {
        linker.build()
    }
}

impl Linker {
    fn of(cache: &Cache, compiler: &Compiler) -> Result<Self> {
        let major = compiler.llvm_major()?;
        Ok(Self {
            root: linker_folder(&cache.path(""), major),
            entry: format!("tools/llvm-{major}"),
            major,
            library: llvm_library(compiler)?,
        })
    }

    fn program(&self) -> PathBuf {
        self.root.join("bin/bpf-linker")
    }

    fn link(&self) -> PathBuf {
        self.root.join("lib/libLLVM.so")
    }

    fn is_ready(&self) -> bool {
        let built_for = fs::read_link(self.link());
        self.program().exists() && built_for.is_ok_and(|library| library == self.library)
    }

    fn build(&self) -> Result<()> {
        let Self { major, library, .. } = self;
        if !LLVMS.contains(major) {
            bail!(
                "bpf-linker {VERSION} does not support LLVM {major} of the BPF compiler: use a compiler with LLVM {} to {}",
                LLVMS[0],
                LLVMS[LLVMS.len() - 1]
            );
        }
        eprintln!("xtask: building bpf-linker {VERSION} for LLVM {major} (a minute or two)");
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        fs::create_dir_all(self.root.join("lib"))?;
        // One name to link with, and one to run with if the dynamic loader does not know the library.
        let name = library
            .file_name()
            .context("the library of LLVM has no name")?;
        symlink(library, self.link())?;
        symlink(library, self.root.join("lib").join(name))?;
        let feature = format!("llvm-{major}");
        // With its folder in PATH, cargo does not advise the user to add it.
        let path = env::var_os("PATH").unwrap_or_default();
        let path = iter::once(self.root.join("bin")).chain(env::split_paths(&path));
        let mut install = build::cargo();
        install
            .args(["install", "bpf-linker", "--version", VERSION, "--locked"])
            .args(["--no-default-features", "--features", &feature, "--root"])
            .arg(&self.root)
            .env("PATH", env::join_paths(path)?)
            .env("LLVM_PREFIX", &self.root)
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        child::run(&mut install).context("cannot install bpf-linker")
    }
}
