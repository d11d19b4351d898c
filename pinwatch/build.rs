//! Builds the BPF object, with the first of these that there is:
//!
//! 1. `PINWATCH_EBPF_OBJECT`: an object built elsewhere, taken as it is;
//! 2. `PINWATCH_EBPF_TOOLCHAIN`: a rustup toolchain with rust-src;
//! 3. rustup's nightly with rust-src;
//! 4. `/usr/bin/rustc` with its library sources (Debian: rustc-web, rust-web-src).

#[path = "build/compiler.rs"]
mod compiler;

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};
use compiler::{Compiler, cache_folder, linker_folder};

const CRATE: &str = "pinwatch-ebpf";
/// Second object of that crate: programs that measure nothing, for benchmarks.
const BASELINE: &str = "baseline";

fn main() {
    if let Err(error) = build() {
        // One readable sentence: cargo shows what a failed script printed.
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}

fn build() -> Result<()> {
    for var in [
        "PINWATCH_EBPF_OBJECT",
        "PINWATCH_EBPF_TOOLCHAIN",
        "PINWATCH_CACHE",
    ] {
        println!("cargo:rerun-if-env-changed={var}");
    }
    println!("cargo:rerun-if-changed=../pinwatch-common/src");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build/compiler.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    version()?;

    if let Some(object) = env::var_os("PINWATCH_EBPF_OBJECT") {
        println!("cargo:rerun-if-changed={}", object.display());
        fs::copy(&object, out.join(CRATE))
            .with_context(|| format!("PINWATCH_EBPF_OBJECT: {}", object.display()))?;
        // Only benchmarks need it; they report the empty object when they load it.
        fs::write(out.join(BASELINE), [])?;
        return Ok(());
    }
    let compiler = Compiler::find()?.context(
        "the BPF programs need a compiler with its library sources; install one of:\n  \
         rustup toolchain install nightly --component rust-src\n  \
         apt-get install --no-install-recommends rustc-web rust-web-src\n\
         or run `cargo xtask setup`, which does it",
    )?;
    let linker = find_linker(&compiler)?;
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = linker
        .into_iter()
        .chain(env::split_paths(&path).collect::<Vec<_>>());
    // SAFETY: a build script's main thread, before any other is started.
    unsafe {
        env::set_var("PATH", env::join_paths(dirs)?);
        // With 32-bit arithmetic and jumps (Linux 5.1). A profile's flags are what
        // `build_ebpf` leaves alone; macros and build scripts are for this machine.
        env::set_var("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_RUSTFLAGS", "-Ctarget-cpu=v3");
        env::set_var(
            "CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_RUSTFLAGS",
            "-Ctarget-cpu=generic",
        );
        if compiler.rustup_name.is_none() {
            env::set_var("RUSTC_BOOTSTRAP", "1");
        }
    }
    share_target(&out)?;
    let root = Path::new("../pinwatch-ebpf");
    build_ebpf(
        [Package {
            name: CRATE,
            root_dir: root.to_str().context("path of pinwatch-ebpf")?,
            ..Package::default()
        }],
        Toolchain::Custom(&toolchain(&compiler, &out)?),
    )
}

/// Lets all profiles and targets that pinwatch is built for have one folder for the
/// BPF crate, which is the same for all and takes a minute from nothing.
fn share_target(out: &Path) -> Result<()> {
    // What cargo marks the roots of its folders with: also that of each target named to it, so
    // the outermost is the one that all builds share.
    let root = out
        .ancestors()
        .filter(|dir| dir.join("CACHEDIR.TAG").exists())
        .last();
    let Some(root) = root else { return Ok(()) };
    let (shared, folder) = (root.join("ebpf"), out.join("aya-build"));
    fs::create_dir_all(&shared)?;
    fs::create_dir_all(&folder)?;
    // Where `build_ebpf` builds.
    let target = folder.join("target");
    if target.read_link().is_ok_and(|to| to == shared) {
        return Ok(());
    }
    if target.is_symlink() {
        fs::remove_file(&target)?;
    } else if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    symlink(&shared, &target).with_context(|| target.display().to_string())
}

/// What `rustup run` takes: the toolchain's name, or a folder that looks like one, with Debian's compiler
/// and the cargo that runs this build.
fn toolchain(compiler: &Compiler, out: &Path) -> Result<String> {
    if let Some(name) = &compiler.rustup_name {
        return Ok(name.clone());
    }
    let folder = out.join("toolchain");
    let bin = folder.join("bin");
    fs::create_dir_all(&bin)?;
    let cargo = PathBuf::from(env::var_os("CARGO").context("CARGO is not set")?);
    for (target, name) in [(&compiler.rustc, "rustc"), (&cargo, "cargo")] {
        let link = bin.join(name);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        symlink(target, link)?;
    }
    Ok(folder.to_str().context("OUT_DIR is not UTF-8")?.to_owned())
}

/// The folder of the bpf-linker that `cargo xtask setup` made for this compiler's LLVM; none if the one
/// in PATH has to do.
fn find_linker(compiler: &Compiler) -> Result<Option<PathBuf>> {
    let major = compiler.llvm_major()?;
    if let Some(cache) = cache_folder() {
        let bin = linker_folder(&cache, major).join("bin");
        if bin.join("bpf-linker").exists() {
            return Ok(Some(bin));
        }
    }
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|dir| dir.join("bpf-linker").exists()) {
        return Ok(None);
    }
    bail!("bpf-linker is missing: run `cargo xtask setup`, which builds one for LLVM {major}")
}

/// What `build_info` says of this build.
fn version() -> Result<()> {
    let rustc = env::var_os("RUSTC").context("RUSTC is not set")?;
    let output = Command::new(rustc).arg("-V").output()?;
    let text = String::from_utf8(output.stdout)?;
    println!(
        "cargo:rustc-env=PINWATCH_RUSTC={}",
        text.split(' ').nth(1).unwrap_or("unknown")
    );
    let git = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output();
    let revision = git.ok().filter(|output| output.status.success());
    let revision = revision.and_then(|output| String::from_utf8(output.stdout).ok());
    println!(
        "cargo:rustc-env=PINWATCH_REVISION={}",
        revision.unwrap_or_default().trim()
    );
    Ok(())
}
