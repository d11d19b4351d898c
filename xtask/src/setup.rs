//! `cargo xtask setup`: installs the programs that builds and guests need, or lists them.
//!
//! [`NEEDS`] has a row per program. Packages are installed only as root on a Debian system; apt's sources
//! do not change. Otherwise the commands are printed. The BPF linker is built into the cache with the same
//! LLVM as the compiler of the BPF programs.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::arch::Arch;
use crate::build::compiler::Compiler;
use crate::build::linker;
use crate::cache::Cache;
use crate::child;
use crate::debian::apt;

/// Install missing programs, or list them
///
/// All other commands do this first.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask setup
  cargo xtask setup --check")]
pub struct SetupArgs {
    /// Only list missing programs
    #[arg(long)]
    check: bool,
}

/// A use of this machine. Each has its own needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Boot guests.
    Guests,
    /// Boot guests and build pinwatch with its BPF programs.
    All,
    /// All of that, and test the page, `pinwatch top` and the metrics with real clients.
    Tests,
    /// All of that, and make a disk with a Debian system.
    InstallTest,
    /// Build pinwatch and count the instructions of user space.
    Counts,
}

impl Purpose {
    fn wants(self, need: Self) -> bool {
        match self {
            Self::Counts => need == self || need <= Self::All,
            _ => need <= self,
        }
    }
}

/// A program or file that must be on this machine.
struct Need {
    name: &'static str,
    present: fn(&str) -> bool,
    package: &'static str,
    purpose: Purpose,
}

const NEEDS: &[Need] = &[
    Need {
        name: "qemu-system-x86_64",
        present: in_path,
        package: "qemu-system-x86",
        purpose: Purpose::Guests,
    },
    Need {
        name: "apt-get",
        present: in_path,
        package: "apt",
        purpose: Purpose::Guests,
    },
    Need {
        name: "dpkg-deb",
        present: in_path,
        package: "dpkg",
        purpose: Purpose::Guests,
    },
    Need {
        name: apt::KEYRING,
        present: is_file,
        package: "debian-archive-keyring",
        purpose: Purpose::Guests,
    },
    Need {
        name: "xz",
        present: in_path,
        package: "xz-utils",
        purpose: Purpose::Guests,
    },
    Need {
        name: "zstd",
        present: in_path,
        package: "zstd",
        purpose: Purpose::Guests,
    },
    Need {
        name: "lz4",
        present: in_path,
        package: "lz4",
        purpose: Purpose::Guests,
    },
    Need {
        name: "cc",
        present: in_path,
        package: "gcc",
        purpose: Purpose::All,
    },
    Need {
        name: "chromium-headless-shell",
        present: in_path,
        package: "chromium-headless-shell",
        purpose: Purpose::Tests,
    },
    Need {
        name: "tmux",
        present: in_path,
        package: "tmux",
        purpose: Purpose::Tests,
    },
    Need {
        name: "systemd-analyze",
        present: in_path,
        package: "systemd",
        purpose: Purpose::Tests,
    },
    Need {
        name: "debootstrap",
        present: in_path,
        package: "debootstrap",
        purpose: Purpose::InstallTest,
    },
    Need {
        name: "mkfs.ext4",
        present: in_path,
        package: "e2fsprogs",
        purpose: Purpose::InstallTest,
    },
    Need {
        name: "valgrind",
        present: in_path,
        package: "valgrind",
        purpose: Purpose::Counts,
    },
    Need {
        name: "libc.a",
        present: cc_finds,
        package: "libc6-dev",
        purpose: Purpose::All,
    },
];

/// For guests of arm64, beside [`NEEDS`].
const ARM64_NEEDS: &[Need] = &[
    Need {
        name: "qemu-system-aarch64",
        present: in_path,
        package: "qemu-system-arm",
        purpose: Purpose::Guests,
    },
    Need {
        name: "aarch64-linux-gnu-gcc",
        present: in_path,
        package: "gcc-aarch64-linux-gnu",
        purpose: Purpose::All,
    },
    Need {
        name: "/usr/aarch64-linux-gnu/lib/libc.a",
        present: is_file,
        package: "libc6-dev-arm64-cross",
        purpose: Purpose::All,
    },
];

/// Debian's compiler with its library sources, for machines without rustup's nightly and rust-src.
const COMPILER_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

pub fn main(args: &SetupArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    if !args.check {
        ensure(&cache, Purpose::Tests)?;
        eprintln!("xtask: everything is in place");
        return Ok(ExitCode::SUCCESS);
    }
    let packages = missing_packages(Purpose::Tests)?;
    let compiler = Compiler::find()?;
    let linker = match &compiler {
        Some(compiler) => linker::is_ready(&cache, compiler)?,
        None => false,
    };
    if packages.is_empty() && linker {
        println!("everything is in place");
        return Ok(ExitCode::SUCCESS);
    }
    if !packages.is_empty() {
        println!("missing packages: {}", packages.join(" "));
    }
    if !linker {
        println!("missing: bpf-linker for the compiler of the BPF programs");
    }
    Ok(ExitCode::FAILURE)
}

/// Installs whatever a purpose needs. Quick if nothing is missing.
pub fn ensure(cache: &Cache, purpose: Purpose) -> Result<()> {
    let packages = missing_packages(purpose)?;
    if !packages.is_empty() {
        install(&packages)?;
    }
    if purpose >= Purpose::All
        && let Some(compiler) = Compiler::find()?
    {
        linker::ensure(cache, &compiler)?;
    }
    Ok(())
}

/// Installs whatever a purpose needs for guests of another architecture. Only those who boot one need it, so
/// `setup` does not install it.
pub fn ensure_arch(arch: Arch, purpose: Purpose) -> Result<()> {
    let needs = match arch {
        Arch::X86_64 => return Ok(()),
        Arch::Aarch64 => ARM64_NEEDS,
    };
    let packages = missing_among(needs, purpose);
    if packages.is_empty() {
        return Ok(());
    }
    install(&packages)
}

fn missing_among(needs: &'static [Need], purpose: Purpose) -> Vec<&'static str> {
    let missing = needs
        .iter()
        .filter(|need| purpose.wants(need.purpose) && !(need.present)(need.name));
    missing.map(|need| need.package).collect()
}

fn missing_packages(purpose: Purpose) -> Result<Vec<&'static str>> {
    let mut packages = missing_among(NEEDS, purpose);
    if purpose >= Purpose::All && !prebuilt() && Compiler::find()?.is_none() {
        packages.extend(COMPILER_PACKAGES);
    }
    Ok(packages)
}

/// Whether the user has a BPF object: the build script then compiles none.
fn prebuilt() -> bool {
    env::var_os("PINWATCH_EBPF_OBJECT").is_some()
}

fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let debian = Path::new("/etc/debian_version").exists() && in_path("apt-get");
    if !debian || !geteuid().is_root() {
        bail!("{}", instructions(packages, debian));
    }
    eprintln!("xtask: installing {list}");
    let apt_get = |args: &[&str]| {
        let mut apt_get = child::command("apt-get");
        apt_get
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive");
        apt_get
    };
    let install = || -> Result<()> {
        child::run(&mut apt_get(&["update"]))?;
        child::run(apt_get(&["install", "--yes", "--no-install-recommends"]).args(packages))
    };
    install().with_context(|| format!("cannot install {list}"))
}

/// The commands for a user who may install packages.
fn instructions(packages: &[&str], debian: bool) -> String {
    let (compiler, others): (Vec<&str>, Vec<&str>) = packages
        .iter()
        .partition(|package| COMPILER_PACKAGES.contains(package));
    let mut text = "programs are missing; run".to_owned();
    if debian {
        text += &format!(
            "\n  sudo apt-get update\n  sudo apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
        if !compiler.is_empty() {
            text += &format!(
                "\nor, instead of {}:\n  rustup toolchain install nightly --component rust-src",
                compiler.join(" and ")
            );
        }
        return text;
    }
    if !compiler.is_empty() {
        text += "\n  rustup toolchain install nightly --component rust-src";
    }
    if !others.is_empty() {
        text += &format!(
            "\nand install what these packages of Debian contain: {}",
            others.join(" ")
        );
    }
    text
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .any(|dir| fs::metadata(dir.join(program)).is_ok_and(|meta| meta.is_file()))
}

fn is_file(path: &str) -> bool {
    Path::new(path).is_file()
}

/// Whether the C compiler has a library: it prints the bare name of a missing one.
fn cc_finds(library: &str) -> bool {
    let output = Command::new("cc")
        .arg(format!("-print-file-name={library}"))
        .output();
    output
        .is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_absolute())
}
