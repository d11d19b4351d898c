//! Builds the BPF object, with the first of these that there is:
//!
//! 1. `PINWATCH_EBPF_OBJECT`: an object built elsewhere, taken as it is;
//! 2. `PINWATCH_EBPF_TOOLCHAIN`: a rustup toolchain with rust-src;
//! 3. rustup's nightly with rust-src;
//! 4. `/usr/bin/rustc` with its library sources (Debian: rustc-web, rust-web-src).

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

const CRATE: &str = "pinwatch-ebpf";
/// Second object of that crate: programs that measure nothing, for benchmarks.
const BASELINE: &str = "baseline";
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

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
    let toolchain = Compiler::find(&out)?;
    let linker = find_linker(&toolchain.rustc)?;
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
        if toolchain.bootstrap {
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
        Toolchain::Custom(&toolchain.name),
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

/// The compiler of the BPF crate.
struct Compiler {
    /// What `rustup run` takes: a toolchain's name, or a folder.
    name: String,
    rustc: PathBuf,
    /// A stable compiler that must be told to accept `-Z build-std`.
    bootstrap: bool,
}

impl Compiler {
    fn find(out: &Path) -> Result<Self> {
        if let Ok(name) = env::var("PINWATCH_EBPF_TOOLCHAIN") {
            return Self::rustup(&name).with_context(|| {
                format!(
                    "PINWATCH_EBPF_TOOLCHAIN={name}: no such toolchain, or it lacks rust-src \
                     (rustup toolchain install {name} --component rust-src)"
                )
            });
        }
        if let Some(nightly) = Self::rustup("nightly") {
            return Ok(nightly);
        }
        Self::system(out)?.context(
            "the BPF programs need a compiler with its library sources; install one of:\n  \
             rustup toolchain install nightly --component rust-src\n  \
             apt-get install --no-install-recommends rustc-web rust-web-src\n\
             or let `cargo xtask setup` do it",
        )
    }

    fn rustup(name: &str) -> Option<Self> {
        let output = Command::new("rustup")
            .args(["run", name, "rustc", "--print", "sysroot"])
            .env_remove("RUSTC")
            .env("RUSTUP_AUTO_INSTALL", "0")
            .output()
            .ok()?;
        let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        (output.status.success() && has_library_sources(&sysroot)).then(|| Self {
            name: name.to_owned(),
            rustc: sysroot.join("bin/rustc"),
            bootstrap: false,
        })
    }

    /// Debian's compiler, in a folder that looks like a toolchain's to rustup,
    /// with the cargo that runs this build.
    fn system(out: &Path) -> Result<Option<Self>> {
        if !Path::new(SYSTEM_RUSTC).exists() {
            return Ok(None);
        }
        let output = Command::new(SYSTEM_RUSTC)
            .args(["--print", "sysroot"])
            .output()?;
        if !has_library_sources(Path::new(String::from_utf8(output.stdout)?.trim())) {
            return Ok(None);
        }
        let folder = out.join("toolchain");
        let bin = folder.join("bin");
        fs::create_dir_all(&bin)?;
        let cargo = PathBuf::from(env::var_os("CARGO").context("CARGO is not set")?);
        for (target, name) in [(Path::new(SYSTEM_RUSTC), "rustc"), (&cargo, "cargo")] {
            let link = bin.join(name);
            if link.symlink_metadata().is_ok() {
                fs::remove_file(&link)?;
            }
            symlink(target, link)?;
        }
        Ok(Some(Self {
            name: folder.to_str().context("OUT_DIR is not UTF-8")?.to_owned(),
            rustc: SYSTEM_RUSTC.into(),
            bootstrap: true,
        }))
    }
}

fn has_library_sources(sysroot: &Path) -> bool {
    sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .exists()
}

/// The folder of the bpf-linker that `cargo xtask setup` made for this
/// compiler's LLVM; none where the one in PATH has to do.
fn find_linker(rustc: &Path) -> Result<Option<PathBuf>> {
    let output = Command::new(rustc).arg("-vV").output()?;
    let text = String::from_utf8(output.stdout)?;
    let major = text
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next())
        .context("rustc -vV names no LLVM version")?;
    if let Some(cache) = cache() {
        let bin = cache
            .join("tools")
            .join(format!("llvm-{major}"))
            .join("bin");
        if bin.join("bpf-linker").exists() {
            return Ok(Some(bin));
        }
    }
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|dir| dir.join("bpf-linker").exists()) {
        return Ok(None);
    }
    bail!("bpf-linker is missing; `cargo xtask setup` installs one for LLVM {major}")
}

/// Where `xtask` keeps its tools.
fn cache() -> Option<PathBuf> {
    let var = |name| {
        env::var_os(name)
            .filter(|v: &OsString| !v.is_empty())
            .map(PathBuf::from)
    };
    var("PINWATCH_CACHE")
        .or_else(|| Some(var("XDG_CACHE_HOME")?.join("pinwatch")))
        .or_else(|| Some(var("HOME")?.join(".cache/pinwatch")))
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
