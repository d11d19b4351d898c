//! Kernels that `cargo xtask kernel build` made, by name. Each is a folder in the cache.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::arch::Arch;
use crate::cache::Cache;
use crate::debian::kernels::{Fetched, Kernel, OWN, OWN_ARM64, all};

/// A kernel on the command line: a stock one by its series, or a built one by its name.
#[derive(Clone, Debug)]
pub enum Choice {
    Stock(&'static Kernel),
    Built(String),
}

impl Choice {
    /// The two fields of a guest of this architecture that say which kernel it boots.
    pub fn open(&self, arch: Arch, cache: &Cache) -> Result<(&'static Kernel, Option<Fetched>)> {
        match self {
            Self::Stock(kernel) => Ok((kernel.on(arch)?, None)),
            Self::Built(name) => {
                let built = open(cache, name)?;
                let made = fs::read_to_string(recipe_file(cache, name))?;
                match made.contains(&arch_line(Arch::Aarch64)) {
                    true if arch != Arch::Aarch64 => {
                        bail!("kernel {name} is of arm64: add --arch aarch64")
                    }
                    false if arch != Arch::X86_64 => {
                        bail!("kernel {name} is of x86-64: leave out --arch")
                    }
                    _ => Ok((own(arch), Some(built))),
                }
            }
        }
    }
}

impl FromStr for Choice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(kernel) = all().find(|kernel| kernel.series == text) {
            return Ok(Self::Stock(kernel));
        }
        let name = parse_name(text)?;
        let built = names(&Cache::open()?)?;
        if built.contains(&name) {
            return Ok(Self::Built(name));
        }
        let stock: Vec<_> = all().map(|kernel| kernel.series).collect();
        let built = match built.is_empty() {
            true => "none is built yet: cargo xtask kernel build --help".to_owned(),
            false => format!("built ones are {}", built.join(", ")),
        };
        bail!(
            "no kernel has this name: stock ones are {}; {built}",
            stock.join(", ")
        )
    }
}

/// For clap: the name of a built kernel. It becomes a part of the kernel's release and a folder's name.
pub fn parse_name(name: &str) -> Result<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ensure!(
        (1..=40).contains(&name.len())
            && name.chars().all(allowed)
            && name.starts_with(|c: char| c.is_ascii_alphanumeric()),
        "a name has 1 to 40 letters, digits, dots, dashes or underscores, and begins with a letter or digit"
    );
    ensure!(
        all().all(|kernel| kernel.series != name),
        "{name} is a stock kernel: choose another name"
    );
    Ok(name.to_owned())
}

/// The user's own kernel for an architecture: see [`OWN`].
pub fn own(arch: Arch) -> &'static Kernel {
    match arch {
        Arch::X86_64 => &OWN,
        Arch::Aarch64 => &OWN_ARM64,
    }
}

pub fn entry(name: &str) -> String {
    format!("lab/kernels/{name}")
}

/// The file of a built kernel that says what it was made of.
pub fn recipe_file(cache: &Cache, name: &str) -> PathBuf {
    cache.path(&entry(name)).join("recipe")
}

/// The line of that file for an architecture. Kernels of x86-64 have none.
pub fn arch_line(arch: Arch) -> String {
    format!("arch {}\n", arch.debian())
}

fn open(cache: &Cache, name: &str) -> Result<Fetched> {
    Fetched::open(cache.path(&entry(name)))
        .with_context(|| format!("kernel {name} is not here: cargo xtask kernel list"))
}

/// The names of all built kernels, sorted.
pub fn names(cache: &Cache) -> Result<Vec<String>> {
    let folder = cache.path("lab/kernels");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub fn remove(cache: &Cache, name: &str) -> Result<()> {
    let dir = cache.path(&entry(name));
    if !dir.exists() {
        bail!("no kernel {name} is built: `cargo xtask kernel list` shows what is");
    }
    fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths_and_releases() {
        for good in ["v4", "5.10-base", "a_b.c"] {
            assert_eq!(parse_name(good).unwrap(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "-x", "5.10", &"x".repeat(41)] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }
}
