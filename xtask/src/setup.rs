//! `cargo xtask setup`: installs the programs that builds and guests need, or lists them.
//!
//! `needs` has a row per program. Packages are installed only as root on a Debian system; apt's sources
//! do not change. Otherwise the commands are printed. The BPF linker is built into the cache with the same
//! LLVM as the compiler of the BPF programs.

mod needs;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::arch::Arch;
use crate::build::compiler::Compiler;
use crate::build::linker;
use crate::cache::Cache;
use crate::child;

pub use self::needs::Purpose;
use self::needs::{ARM64_NEEDS, CLANG_NEEDS, NEEDS, Need, in_path};

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
    if purpose.builds_programs()
        && let Some(compiler) = Compiler::find()?
    {
        linker::ensure(cache, &compiler)?;
    }
    Ok(())
}

/// Installs the package of one program that no purpose always needs.
pub fn ensure_program(name: &str, package: &'static str) -> Result<()> {
    if in_path(name) {
        return Ok(());
    }
    install(&[package])
}

/// Installs whatever a purpose needs for guests of another architecture. Only those who boot one need it, so
/// `setup` does not install it.
pub fn ensure_arch(arch: Arch, purpose: Purpose) -> Result<()> {
    let needs = match arch {
        Arch::X86_64 => return Ok(()),
        Arch::Aarch64 => ARM64_NEEDS,
    };
    ensure_among(needs, purpose)
}

/// Installs whatever kernels need that clang compiles. Only those who build one need it.
pub fn ensure_clang() -> Result<()> {
    ensure_among(CLANG_NEEDS, Purpose::Kernels)
}

fn ensure_among(needs: &'static [Need], purpose: Purpose) -> Result<()> {
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
    if purpose.builds_programs() && !prebuilt() && Compiler::find()?.is_none() {
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
