//! Provides the BPF object, from the first of these sources that exists:
//!
//! 1. `PINWATCH_EBPF_OBJECT`: an object built elsewhere, used unchanged;
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
/// The second object of `pinwatch-ebpf`: programs that measure nothing, for benchmarks.
const BASELINE: &str = "baseline";

fn main() {
    if let Err(error) = build() {
        // Display instead of `Result`'s Debug output: cargo prints stderr of a failed script.
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
    let out = PathBuf::from(
        env::var_os("OUT_DIR").context("OUT_DIR is not set: run this script with cargo")?,
    );
    version()?;

    if let Some(object) = env::var_os("PINWATCH_EBPF_OBJECT") {
        println!("cargo:rerun-if-changed={}", object.display());
        fs::copy(&object, out.join(CRATE)).with_context(|| {
            format!(
                "cannot copy {}, which PINWATCH_EBPF_OBJECT names",
                object.display()
            )
        })?;
        // Only benchmarks load this object. They report that it is empty.
        fs::write(out.join(BASELINE), [])?;
        return Ok(());
    }
    let compiler = Compiler::find()?.context(
        "no Rust compiler with library sources for the BPF programs was found; install one of:\n  \
         rustup toolchain install nightly --component rust-src\n  \
         apt-get install --no-install-recommends rustc-web rust-web-src\n\
         or run `cargo xtask setup`, which installs one",
    )?;
    let linker = find_linker(&compiler)?;
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = linker
        .into_iter()
        .chain(env::split_paths(&path).collect::<Vec<_>>());
    // SAFETY: the build script has no other thread yet.
    unsafe {
        env::set_var("PATH", env::join_paths(dirs)?);
        // v3 has 32-bit arithmetic and jumps (Linux 5.1). `build_ebpf` sets RUSTFLAGS itself, so the
        // flag goes into the profile. Macros and build scripts compile for the host.
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
            root_dir: root
                .to_str()
                .context("the path of pinwatch-ebpf is not UTF-8")?,
            ..Package::default()
        }],
        Toolchain::Custom(&toolchain(&compiler, &out)?),
    )
}

/// Links the BPF crate's target folder to one that all profiles and targets share: its output does not
/// depend on them, and a clean build takes a minute.
fn share_target(out: &Path) -> Result<()> {
    // cargo puts CACHEDIR.TAG into `target` and into `target/TRIPLE`. All builds share the outermost.
    let root = out
        .ancestors()
        .filter(|dir| dir.join("CACHEDIR.TAG").exists())
        .last();
    let Some(root) = root else { return Ok(()) };
    // The object does depend on the architecture, by its flags.
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let shared = root.join("ebpf").join(arch);
    let folder = out.join("aya-build");
    fs::create_dir_all(&shared)?;
    fs::create_dir_all(&folder)?;
    // `build_ebpf` builds in this folder.
    let target = folder.join("target");
    if target.read_link().is_ok_and(|to| to == shared) {
        return Ok(());
    }
    if target.is_symlink() {
        fs::remove_file(&target)?;
    } else if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    symlink(&shared, &target)
        .with_context(|| format!("cannot create the symlink {}", target.display()))
}

/// The toolchain argument of `rustup run`: a name, or for Debian's compiler a folder in the form of a
/// toolchain, with that compiler and the cargo that runs this build.
fn toolchain(compiler: &Compiler, out: &Path) -> Result<String> {
    if let Some(name) = &compiler.rustup_name {
        return Ok(name.clone());
    }
    let folder = out.join("toolchain");
    let bin = folder.join("bin");
    fs::create_dir_all(&bin)?;
    let cargo = PathBuf::from(
        env::var_os("CARGO").context("CARGO is not set: run this script with cargo")?,
    );
    for (target, name) in [(&compiler.rustc, "rustc"), (&cargo, "cargo")] {
        let link = bin.join(name);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        symlink(target, link)?;
    }
    Ok(folder.to_str().context("OUT_DIR is not UTF-8")?.to_owned())
}

/// The folder of the bpf-linker that `cargo xtask setup` built for this compiler's LLVM. `None` if only
/// PATH has a bpf-linker; an error if there is none.
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
    bail!("bpf-linker is not installed: run `cargo xtask setup`, which builds it for LLVM {major}")
}

/// Sets the labels of `pinwatch_build_info`: the versions of rustc and of the sources.
fn version() -> Result<()> {
    let rustc = env::var_os("RUSTC").context("RUSTC is not set: run this script with cargo")?;
    let output = Command::new(rustc).arg("-V").output();
    let output = output.context("cannot run RUSTC")?;
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
    // Without git, or outside of a clone, the label still has a value: Prometheus drops an empty one.
    println!(
        "cargo:rustc-env=PINWATCH_REVISION={}",
        revision.as_deref().map_or("unknown", str::trim)
    );
    Ok(())
}
