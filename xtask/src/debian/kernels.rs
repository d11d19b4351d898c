//! The stock kernels that pinwatch is tested on. Debian's packages are fetched once and cached.
//!
//! A cache entry has the uncompressed kernel, its configuration and its modules. It needs no network.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::debian::apt::{Apt, Archive, MirrorArgs, Suite};
use crate::debian::decompress;

/// A kernel series and Debian's suites to search for it, in order.
#[derive(Debug)]
pub struct Kernel {
    pub series: &'static str,
    pub arch: Arch,
    suites: &'static [Suite],
}

const BULLSEYE_SECURITY: Suite = Suite {
    name: "bullseye-security",
    archive: Archive::Security,
};
pub const BOOKWORM_SECURITY: Suite = Suite {
    name: "bookworm-security",
    archive: Archive::Security,
};
pub const BOOKWORM: Suite = Suite {
    name: "bookworm",
    archive: Archive::Main,
};
pub const TRIXIE: Suite = Suite {
    name: "trixie",
    archive: Archive::Main,
};
const TRIXIE_BACKPORTS: Suite = Suite {
    name: "trixie-backports",
    archive: Archive::Main,
};
const SID: Suite = Suite {
    name: "sid",
    archive: Archive::Main,
};

pub const KERNELS: &[Kernel] = &[
    amd64("5.10", &[BULLSEYE_SECURITY]),
    amd64("6.1", &[BOOKWORM_SECURITY, BOOKWORM]),
    amd64("6.12", &[TRIXIE]),
    amd64("6.18", &[TRIXIE_BACKPORTS]),
    // Sid moves on to the next series. Backports keep the previous one for a while.
    amd64("7.2", &[SID, TRIXIE_BACKPORTS]),
    amd64("7.3", &[TRIXIE_BACKPORTS, SID]),
];

/// Kernels between those of [`KERNELS`], of which Debian's backports keep a version for a while. `cargo xtask test --kernels
/// all` runs live tests on them, too.
pub const BETWEEN: &[Kernel] = &[
    amd64("6.16", &[TRIXIE_BACKPORTS]),
    amd64("6.19", &[TRIXIE_BACKPORTS]),
    amd64("7.0", &[TRIXIE_BACKPORTS]),
    amd64("7.1", &[TRIXIE_BACKPORTS]),
];

const fn amd64(series: &'static str, suites: &'static [Suite]) -> Kernel {
    Kernel {
        series,
        arch: Arch::X86_64,
        suites,
    }
}

/// The kernels of [`KERNELS`] that are tested on arm64 too.
pub const ARM64_KERNELS: &[Kernel] = &[
    Kernel {
        series: "6.1",
        arch: Arch::Aarch64,
        suites: &[BOOKWORM_SECURITY, BOOKWORM],
    },
    Kernel {
        series: "6.12",
        arch: Arch::Aarch64,
        suites: &[TRIXIE],
    },
    Kernel {
        series: "7.3",
        arch: Arch::Aarch64,
        suites: &[TRIXIE_BACKPORTS, SID],
    },
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Flavour {
    /// For virtual machines; the smallest.
    #[default]
    Cloud,
    /// For all hardware: has RDMA, 9p and many more modules.
    Full,
    /// PREEMPT_RT: can preempt nearly all kernel code.
    Rt,
    /// Pages of 16 KiB; arm64 only.
    #[value(name = "16k")]
    Pages16k,
}

impl Flavour {
    /// End of the name of a release, such as `-cloud-amd64`.
    fn suffix(self, arch: Arch) -> String {
        let (before, after) = match self {
            Self::Cloud => ("-cloud", ""),
            Self::Full => ("", ""),
            Self::Rt => ("-rt", ""),
            Self::Pages16k => ("", "-16k"),
        };
        format!("{before}-{}{after}", arch.debian())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Full => "full",
            Self::Rt => "rt",
            Self::Pages16k => "16k",
        }
    }
}

/// The user's own kernel ([`Fetched::own`]).
pub static OWN: Kernel = Kernel {
    series: "of your own",
    arch: Arch::X86_64,
    suites: &[],
};

/// The same for arm64.
pub static OWN_ARM64: Kernel = Kernel {
    arch: Arch::Aarch64,
    ..OWN
};

/// A kernel on this disk.
#[derive(Clone)]
pub struct Fetched {
    /// The output of `uname -r`, or the file of the user's own kernel.
    pub release: String,
    dir: PathBuf,
}

impl Fetched {
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("config")
    }

    pub fn modules(&self) -> PathBuf {
        self.dir.join("modules")
    }

    /// Arranges the user's own kernel, a vmlinux or a bzImage, in a folder.
    pub fn own(image: &Path, modules: Option<&Path>, dir: &Path) -> Result<Self> {
        let image = image
            .canonicalize()
            .with_context(|| format!("cannot read {}", image.display()))?;
        fs::create_dir_all(dir)?;
        let vmlinux = dir.join("vmlinux");
        // A vmlinux with debug information has hundreds of megabytes: QEMU reads the original.
        if is_elf(&image)? {
            symlink(&image, vmlinux)?;
        } else {
            let plain = decompress::vmlinux(&fs::read(&image)?).with_context(|| {
                format!("{} is neither a vmlinux nor a bzImage", image.display())
            })?;
            fs::write(vmlinux, plain)?;
        }
        // A build folder has the configuration beside the image or above it.
        let config = image
            .ancestors()
            .skip(1)
            .map(|folder| folder.join(".config"));
        let config = config.take(4).find(|path| path.exists());
        match config {
            Some(config) => fs::copy(config, dir.join("config")).map(drop)?,
            None => fs::write(dir.join("config"), "")?,
        }
        let modules_dir = dir.join("modules");
        match modules {
            Some(modules) => {
                let modules = modules
                    .canonicalize()
                    .with_context(|| modules.display().to_string())?;
                symlink(modules, modules_dir)?;
            }
            None => fs::create_dir(modules_dir)?,
        }
        fs::write(dir.join("release"), image.display().to_string())?;
        Self::open(dir.to_owned())
    }

    /// Whether the kernel came with modules, be they files or built in.
    pub fn has_modules(&self) -> bool {
        self.modules().join(BUILTIN).exists()
    }

    /// A folder with `vmlinux`, `config`, `modules` and `release`.
    pub fn open(dir: PathBuf) -> Result<Self> {
        let release = fs::read_to_string(dir.join("release"))?;
        Ok(Self { release, dir })
    }
}

/// All of Debian's x86-64 kernels that xtask knows.
pub fn all() -> impl Iterator<Item = &'static Kernel> {
    KERNELS.iter().chain(BETWEEN)
}

/// For clap: the kernel of a series.
pub fn parse(series: &str) -> Result<&'static Kernel> {
    match all().find(|kernel| kernel.series == series) {
        Some(kernel) => Ok(kernel),
        None => {
            let known: Vec<_> = all().map(|kernel| kernel.series).collect();
            bail!(
                "pinwatch is not tested on this kernel: choose one of {}",
                known.join(", ")
            )
        }
    }
}

impl Kernel {
    /// Debian's suites that have the kernel, in order of preference.
    pub fn suites(&self) -> &'static [Suite] {
        self.suites
    }

    /// The kernel of the same series for an architecture.
    pub fn on(&'static self, arch: Arch) -> Result<&'static Self> {
        if self.arch == arch {
            return Ok(self);
        }
        let of_arch = ARM64_KERNELS.iter();
        match of_arch.clone().find(|kernel| kernel.series == self.series) {
            Some(kernel) => Ok(kernel),
            None => {
                let known: Vec<_> = of_arch.map(|kernel| kernel.series).collect();
                bail!(
                    "pinwatch is not tested on kernel {} for {}: choose one of {}",
                    self.series,
                    arch.debian(),
                    known.join(", ")
                )
            }
        }
    }

    /// The kernel from the cache, or from the network.
    pub fn fetch(&self, flavour: Flavour, cache: &Cache, mirrors: &MirrorArgs) -> Result<Fetched> {
        let entry = format!(
            "kernels/{}-{}{}",
            self.series,
            flavour.name(),
            self.arch.suffix()
        );
        if let Ok(fetched) = Fetched::open(cache.path(&entry)) {
            return Ok(fetched);
        }
        let _lock = cache.lock(&entry)?;
        if let Ok(fetched) = Fetched::open(cache.path(&entry)) {
            return Ok(fetched);
        }
        let scratch = cache.scratch()?;
        let made = self
            .download(flavour, cache, mirrors, scratch.path())
            .with_context(|| format!("cannot fetch kernel {}", self.series))?;
        Fetched::open(cache.publish(&made, &entry)?)
    }

    fn download(
        &self,
        flavour: Flavour,
        cache: &Cache,
        mirrors: &MirrorArgs,
        scratch: &Path,
    ) -> Result<PathBuf> {
        for suite in self.suites {
            let apt = Apt::update(cache, *suite, self.arch, mirrors)?;
            let names = apt.names("linux-")?;
            let Some(release) = newest(&names, self.series, &flavour.suffix(self.arch)) else {
                continue;
            };
            // Up to 7.1 the image package has all; since then it is split.
            let packages: Vec<_> = ["image", "binary", "modules", "base"]
                .map(|part| format!("linux-{part}-{release}"))
                .into_iter()
                .filter(|package| names.contains(package))
                .collect();
            let root = scratch.join("root");
            fs::create_dir(&root)?;
            apt.unpack(&packages, &root)?;
            drop(apt);
            eprintln!("xtask: unpacking kernel {release}");
            let whole = packages.len() == 1 || packages.iter().any(|p| p.contains("-modules-"));
            if !whole {
                eprintln!(
                    "xtask: the archive has no modules of {release} any more: guests go without"
                );
            }
            return arrange(&root, &release, self.arch, whole, &scratch.join("made"));
        }
        let tried: Vec<_> = self.suites.iter().map(|suite| suite.name).collect();
        bail!("Debian has no such kernel in {}", tried.join(", "))
    }
}

/// The list of modules that a kernel has built in.
const BUILTIN: &str = "modules.builtin";

/// Picks out of unpacked packages what a guest needs. Configuration and modules only if the packages are `whole`.
fn arrange(root: &Path, release: &str, arch: Arch, whole: bool, made: &Path) -> Result<PathBuf> {
    let first = |candidates: &[String]| {
        candidates
            .iter()
            .map(|candidate| root.join(candidate))
            .find(|path| path.exists())
            .with_context(|| format!("the packages have no {}", candidates[0]))
    };
    let boot = |file: &str| {
        [
            format!("boot/{file}-{release}"),
            format!("usr/lib/modules/{release}/{file}"),
        ]
    };
    fs::create_dir(made)?;
    let image = fs::read(first(&boot("vmlinuz"))?)?;
    let kernel = match arch {
        Arch::X86_64 => decompress::vmlinux(&image)?,
        Arch::Aarch64 => decompress::arm64_image(image)?,
    };
    fs::write(made.join("vmlinux"), kernel)?;
    if whole {
        fs::copy(first(&boot("config"))?, made.join("config"))?;
        let modules = first(&[
            format!("lib/modules/{release}"),
            format!("usr/lib/modules/{release}"),
        ])?;
        fs::rename(modules, made.join("modules"))?;
    } else {
        fs::write(made.join("config"), "")?;
        fs::create_dir(made.join("modules"))?;
    }
    fs::write(made.join("release"), release)?;
    Ok(made.to_owned())
}

fn is_elf(path: &Path) -> Result<bool> {
    const ELF: &[u8] = b"\x7fELF";
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.take(ELF.len() as u64).read_to_end(&mut start)?;
    Ok(start == ELF)
}

/// The newest release of a series among package names. Meta-packages, unsigned images and other
/// flavours have names that look much alike.
fn newest(names: &[String], series: &str, suffix: &str) -> Option<String> {
    names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-"))
        .filter(|release| {
            release.strip_suffix(suffix).is_some_and(|version| {
                let point = version
                    .strip_prefix(series)
                    .and_then(|rest| rest.strip_prefix('.'));
                point.is_some() && !version.ends_with("-cloud") && !version.ends_with("-rt")
            })
        })
        .max_by(|a, b| by_numbers(a, b))
        .map(str::to_owned)
}

/// Orders 6.12.94 before 6.12.107.
fn by_numbers(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|c: char| !c.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect()
    };
    numbers(a).cmp(&numbers(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_of_a_flavour() {
        let names = [
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.94+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.12.108+deb13-cloud-amd64-unsigned",
            "linux-image-6.12.108+deb13-cloud-amd64-dbg",
            "linux-image-6.12.106+deb13-amd64",
            "linux-image-6.12.99+deb13-rt-amd64",
            "linux-image-6.12.109+deb13-rt-amd64",
            "linux-image-6.12.110+deb13-rt-amd64-unsigned",
            "linux-image-6.1.0-49-cloud-amd64",
            "linux-image-5.10.0-46-amd64",
            "linux-image-6.12.111+deb13-arm64",
            "linux-image-6.12.113+deb13-arm64-16k",
            "linux-image-6.12.112+deb13-cloud-arm64",
        ]
        .map(str::to_owned);
        let newest_on =
            |arch, series, flavour: Flavour| newest(&names, series, &flavour.suffix(arch));
        let newest = |series, flavour| newest_on(Arch::X86_64, series, flavour);
        assert_eq!(
            newest("6.12", Flavour::Cloud).unwrap(),
            "6.12.107+deb13-cloud-amd64"
        );
        assert_eq!(
            newest("6.12", Flavour::Full).unwrap(),
            "6.12.106+deb13-amd64"
        );
        assert_eq!(
            newest("6.12", Flavour::Rt).unwrap(),
            "6.12.109+deb13-rt-amd64"
        );
        assert_eq!(newest("6.1", Flavour::Rt), None);
        assert_eq!(
            newest("6.1", Flavour::Cloud).unwrap(),
            "6.1.0-49-cloud-amd64"
        );
        assert_eq!(newest("5.10", Flavour::Full).unwrap(), "5.10.0-46-amd64");
        assert_eq!(newest("5.1", Flavour::Full), None);
        assert_eq!(newest("6.12", Flavour::Pages16k), None);
        let newest = |flavour| newest_on(Arch::Aarch64, "6.12", flavour).unwrap();
        assert_eq!(newest(Flavour::Cloud), "6.12.112+deb13-cloud-arm64");
        assert_eq!(newest(Flavour::Full), "6.12.111+deb13-arm64");
        assert_eq!(newest(Flavour::Pages16k), "6.12.113+deb13-arm64-16k");
    }
}
