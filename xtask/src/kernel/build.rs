//! Builds one kernel: source, patches, configuration, make, and the result in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::child;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{Fetched, Kernel};
use crate::kernel::make::{Compiler, Make};
use crate::kernel::source::{self, Source};
use crate::kernel::{config, store, tree};
use crate::setup::{self, Purpose};

pub use source::parse as parse_source;

/// What a kernel is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub name: String,
    pub source: &'static Kernel,
    pub arch: Arch,
    /// Applied in this order.
    pub patches: Vec<PathBuf>,
    pub fragments: Vec<PathBuf>,
    pub compiler: Compiler,
    pub jobs: usize,
}

impl Recipe {
    /// A kernel with patches of `xtask/kernels`, built by gcc and all processors.
    pub fn with_own_patches(name: &str, series: &str, patches: &[&str]) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            source: parse_source(series)?,
            patches: patches.iter().map(|patch| own_file(patch)).collect(),
            fragments: Vec::new(),
            arch: Arch::X86_64,
            compiler: Compiler::Gcc,
            jobs: available_parallelism()?.get(),
        })
    }
}

/// A file of `xtask/kernels`.
pub fn own_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("kernels")
        .join(name)
}

/// Kernel arguments with which pins of 5.10 find their pages in CMA.
///
/// It serves user pages from CMA only while more than half of the free memory is CMA, and not from per-CPU lists. The
/// fraction keeps these empty: they would hand out pages again that an earlier pin moved out of CMA.
pub const PAGES_IN_CMA: &str =
    "movablecore=0 cma=1100M sysctl.vm.percpu_pagelist_fraction=2000000000";

/// The built kernel. Quick if it was made of the same before.
pub fn build(recipe: &Recipe, cache: &Cache, mirrors: &MirrorArgs) -> Result<Fetched> {
    setup::ensure(cache, Purpose::Kernels)?;
    setup::ensure_arch(recipe.arch, Purpose::All)?;
    if recipe.compiler == Compiler::Clang {
        setup::ensure_clang()?;
    }
    let name = &recipe.name;
    let source = Source::open(recipe.source, cache, mirrors)?;
    let requested = config::requested(recipe.arch, &recipe.fragments)?;
    let text = describe(recipe, &source.version()?, &requested)?;
    let dir = cache.path(&store::entry(name));
    if fs::read_to_string(store::recipe_file(cache, name)).is_ok_and(|made| made == text) {
        eprintln!("xtask: kernel {name} is up to date");
        return Fetched::open(dir);
    }
    let scratch = cache.scratch()?;
    tree::patch(
        &source.tree(),
        &source.originals(),
        &recipe.patches,
        scratch.path(),
    )?;
    let make = Make {
        source: &source,
        arch: recipe.arch,
        suffix: format!("-{name}"),
        compiler: recipe.compiler,
        jobs: recipe.jobs,
    };
    let folder = source.build(recipe.arch);
    fs::create_dir_all(&folder)?;
    configure(&make, &requested, recipe, scratch.path())?;
    let image = match recipe.arch {
        Arch::X86_64 => "vmlinux",
        Arch::Aarch64 => "Image",
    };
    make.shown(&format!("building kernel {name}"), &[image])?;
    let made = scratch.path().join("made");
    collect(recipe.arch, &folder, &made, &text)?;
    Fetched::open(cache.publish(&made, &store::entry(name))?)
}

/// One line per ingredient, with checksums: equal texts give equal kernels.
fn describe(recipe: &Recipe, version: &str, requested: &str) -> Result<String> {
    let mut text = format!(
        "source {} {version}\nconfig {}\n",
        recipe.source.series,
        checksum(requested.as_bytes())
    );
    if recipe.arch != Arch::X86_64 {
        text += &store::arch_line(recipe.arch);
    }
    if recipe.compiler == Compiler::Clang {
        text += "compiler clang\n";
    }
    for (kind, files) in [("fragment", &recipe.fragments), ("patch", &recipe.patches)] {
        for file in files {
            let data = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            text += &format!("{kind} {} {name}\n", checksum(&data));
        }
    }
    Ok(text)
}

/// Enough of a checksum to tell files apart.
fn checksum(data: &[u8]) -> String {
    let digest = Sha256::digest(data);
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Writes the configuration, unless it is what the build folder has: make compiles anew what a changed
/// symbol concerns.
fn configure(make: &Make<'_>, requested: &str, recipe: &Recipe, scratch: &Path) -> Result<()> {
    let wanted = scratch.join("requested");
    fs::write(&wanted, requested)?;
    let dotconfig = make.source.build(make.arch).join(".config");
    let before = fs::read(&dotconfig).ok();
    let all = format!("KCONFIG_ALLCONFIG={}", wanted.display());
    make.quiet(&[&all, "allnoconfig"])?;
    let after = fs::read_to_string(&dotconfig)?;
    if let Err(error) = config::check(recipe.arch, &after, &recipe.fragments) {
        match before {
            Some(before) => fs::write(&dotconfig, before)?,
            None => fs::remove_file(&dotconfig)?,
        }
        return Err(error);
    }
    Ok(())
}

/// Copies what a guest needs. Debug information stays in the build folder; BTF is not part of it.
fn collect(arch: Arch, build: &Path, made: &Path, recipe: &str) -> Result<()> {
    fs::create_dir(made)?;
    let bootable = made.join("vmlinux");
    match arch {
        Arch::X86_64 => child::run(
            child::command("strip")
                .arg("--strip-debug")
                .arg("-o")
                .arg(bootable)
                .arg(build.join("vmlinux")),
        )?,
        Arch::Aarch64 => fs::copy(build.join("arch/arm64/boot/Image"), bootable).map(drop)?,
    }
    fs::copy(build.join(".config"), made.join("config"))?;
    let modules = made.join("modules");
    fs::create_dir(&modules)?;
    fs::copy(
        build.join("modules.builtin"),
        modules.join("modules.builtin"),
    )
    .context("make wrote no list of built-in modules")?;
    let release = fs::read_to_string(build.join("include/config/kernel.release"))?;
    fs::write(made.join("release"), release.trim())?;
    fs::write(made.join("recipe"), recipe)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_ingredient_changes_the_description() {
        let dir = tempfile::tempdir().unwrap();
        let patch = dir.path().join("my.patch");
        fs::write(&patch, "one").unwrap();
        let recipe = Recipe {
            name: "x".to_owned(),
            source: source::parse("5.10").unwrap(),
            patches: vec![patch.clone()],
            fragments: Vec::new(),
            arch: Arch::X86_64,
            compiler: Compiler::Gcc,
            jobs: 1,
        };
        let before = describe(&recipe, "5.10.1", "CONFIG_A=y").unwrap();
        assert!(before.ends_with(" my.patch\n"), "{before}");
        let jobs = Recipe {
            jobs: 2,
            ..recipe.clone()
        };
        assert_eq!(describe(&jobs, "5.10.1", "CONFIG_A=y").unwrap(), before);
        let clang = Recipe {
            compiler: Compiler::Clang,
            ..recipe.clone()
        };
        assert_ne!(describe(&clang, "5.10.1", "CONFIG_A=y").unwrap(), before);
        let arm64 = Recipe {
            arch: Arch::Aarch64,
            ..recipe.clone()
        };
        assert_ne!(describe(&arm64, "5.10.1", "CONFIG_A=y").unwrap(), before);
        assert_ne!(describe(&recipe, "5.10.2", "CONFIG_A=y").unwrap(), before);
        assert_ne!(describe(&recipe, "5.10.1", "CONFIG_A=n").unwrap(), before);
        fs::write(&patch, "two").unwrap();
        assert_ne!(describe(&recipe, "5.10.1", "CONFIG_A=y").unwrap(), before);
    }
}
