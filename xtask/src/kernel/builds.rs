//! Kernels of the lab with other configurations and compilers than Debian's, for `cargo xtask test --lab builds`.

use anyhow::Result;

use super::build::{Recipe, own_file};
use super::make::Compiler;
use crate::arch::Arch;

/// The source of all builds.
const SERIES: &str = "6.12";

/// A kernel of the lab.
pub struct Build {
    pub name: &'static str,
    /// Its difference from the lab's other kernels, for docs/builds.md.
    pub about: &'static str,
    /// In `xtask/kernels`.
    fragment: &'static str,
    pub arch: Arch,
    compiler: Compiler,
    /// Filters of the live tests.
    pub tests: &'static [&'static str],
}

/// The test that fits every kernel.
const ANY: &str = "builds::";
/// Tests for kernels on which most is measured.
const USUAL: &[&str] = &[ANY, "counts::"];

/// One row per build. A build compiles little if its configuration is like that of the build before.
pub const BUILDS: [Build; 6] = [
    Build {
        name: "lab-no-fprobe",
        about: "no CONFIG_FPROBE",
        fragment: "no-fprobe.config",
        arch: Arch::X86_64,
        compiler: Compiler::Gcc,
        tests: USUAL,
    },
    Build {
        name: "lab-no-btf",
        about: "no BTF",
        fragment: "no-btf.config",
        arch: Arch::X86_64,
        compiler: Compiler::Gcc,
        tests: &[ANY],
    },
    Build {
        name: "lab-no-kprobes",
        about: "no CONFIG_KPROBES",
        fragment: "no-kprobes.config",
        arch: Arch::X86_64,
        compiler: Compiler::Gcc,
        tests: USUAL,
    },
    Build {
        name: "lab-rt",
        about: "PREEMPT_RT",
        fragment: "rt.config",
        arch: Arch::X86_64,
        compiler: Compiler::Gcc,
        tests: USUAL,
    },
    Build {
        name: "lab-clang-thinlto",
        about: "clang, ThinLTO",
        fragment: "thinlto.config",
        arch: Arch::X86_64,
        compiler: Compiler::Clang,
        tests: USUAL,
    },
    Build {
        name: "lab-arm64-64k",
        about: "arm64, pages of 64 KiB",
        fragment: "64k.config",
        arch: Arch::Aarch64,
        compiler: Compiler::Gcc,
        tests: USUAL,
    },
];

impl Build {
    pub fn recipe(&self) -> Result<Recipe> {
        Ok(Recipe {
            fragments: vec![own_file(self.fragment)],
            arch: self.arch,
            compiler: self.compiler,
            ..Recipe::with_own_patches(self.name, SERIES, &[])?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fragment_is_there() {
        for build in &BUILDS {
            for fragment in build.recipe().unwrap().fragments {
                assert!(fragment.exists(), "{}", fragment.display());
            }
        }
    }
}
