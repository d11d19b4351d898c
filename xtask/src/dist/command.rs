//! `cargo xtask dist`: makes all files of a release.
//!
//! The static program, its manual pages and completions, a Debian package, a Containerfile, and a software bill
//! of materials. The tools for them are built into the cache on first use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use super::install_test;
use crate::build;
use crate::cache::Cache;
use crate::child;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, Kernel};
use crate::setup::{self, Purpose};

/// Make all files of a release in target/dist
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask dist
  cargo xtask dist --try 6.1 --try 7.3")]
pub struct DistArgs {
    /// Test the package in a VM with Debian 12 and this kernel: installation, Prometheus over TLS, an alert on a
    /// stuck pin, upgrade and removal (repeatable)
    #[arg(long = "try", value_name = "SERIES", value_parser = kernels::parse)]
    tries: Vec<&'static Kernel>,
    /// Make the package only, without the bill of materials and the check of licences
    #[arg(long)]
    package_only: bool,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

/// A cargo subcommand that no distribution packages: crate and version for `cargo install`.
struct Tool {
    name: &'static str,
    version: &'static str,
}

const DEB: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
};
const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};
const PARTS: Tool = Tool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const TARGET: &str = "x86_64-unknown-linux-gnu";

pub fn main(args: &DistArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let purpose = if args.tries.is_empty() {
        Purpose::All
    } else {
        Purpose::InstallTest
    };
    setup::ensure(&cache, purpose)?;
    let dist = Path::new(ROOT).join("target/dist");
    let _ = fs::remove_dir_all(&dist);
    fs::create_dir_all(&dist)?;
    let pinwatch = build::pinwatch()?;
    // Line tables are two thirds of the program.
    let mut strip = child::command("strip");
    strip
        .arg("--strip-debug")
        .arg("-o")
        .arg(dist.join("pinwatch"));
    child::run(strip.arg(&pinwatch))?;
    child::run(
        child::command(&pinwatch)
            .arg("manual")
            .arg(dist.join("manual")),
    )?;
    for file in [
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-GPL2",
        "LICENSE-MIT",
    ] {
        fs::copy(Path::new(ROOT).join(file), dist.join(file))?;
    }
    for file in ["Containerfile", "daemonset.yml"] {
        fs::copy(
            Path::new(ROOT).join("packaging").join(file),
            dist.join(file),
        )?;
    }
    let package = package(&cache, &dist, "1")?;
    if !args.package_only {
        list_parts(&cache, &dist)?;
        check_licences(&cache)?;
    }
    for kernel in &args.tries {
        let upgrade = package_beside(&cache, &dist)?;
        install_test::run(kernel, &cache, &args.mirrors, &package, &upgrade)?;
    }
    println!("{}", dist.canonicalize()?.display());
    Ok(ExitCode::SUCCESS)
}

/// Makes the Debian package of this build, with a Debian revision.
fn package(cache: &Cache, to: &Path, revision: &str) -> Result<PathBuf> {
    let mut deb = DEB.command(cache, "deb")?;
    deb.args(["--no-build", "--no-strip", "--package", "pinwatch"])
        .args(["--target", TARGET, "--deb-revision", revision])
        .arg("--output")
        .arg(to);
    child::run(&mut deb)?;
    let made = fs::read_dir(to)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut made = made.filter(|path| path.extension().is_some_and(|end| end == "deb"));
    made.next().context("cargo deb made no package")
}

/// The same with a newer revision, for the test of an upgrade.
fn package_beside(cache: &Cache, dist: &Path) -> Result<PathBuf> {
    let folder = dist.join("upgrade");
    fs::create_dir_all(&folder)?;
    package(cache, &folder, "2")
}

/// A software bill of materials, in CycloneDX.
fn list_parts(cache: &Cache, dist: &Path) -> Result<()> {
    const NAME: &str = "pinwatch.cdx";
    let mut parts = PARTS.command(cache, "cyclonedx")?;
    parts
        .args(["--format", "json", "--target", TARGET])
        .args(["--override-filename", NAME]);
    child::run(&mut parts)?;
    // The tool writes one file beside the manifest of each member.
    for member in [
        "pinwatch",
        "pinwatch-common",
        "pinwatch-ebpf",
        "pinwatch-load",
        "xtask",
    ] {
        let made = Path::new(ROOT).join(member).join(format!("{NAME}.json"));
        if member == "pinwatch" {
            // The identifiers contain paths of this machine.
            let root = Path::new(ROOT).canonicalize()?.display().to_string();
            let parts = fs::read_to_string(&made)?.replace(&root, "");
            fs::write(dist.join(format!("{NAME}.json")), parts)?;
        }
        let _ = fs::remove_file(&made);
    }
    Ok(())
}

/// Checks licences and sources of all dependencies against `.cargo/deny.toml`.
fn check_licences(cache: &Cache) -> Result<()> {
    let mut deny = DENY.command(cache, "deny")?;
    deny.args(["--all-features", "--config", ".cargo/deny.toml", "check"])
        .args(["bans", "licenses", "sources"]);
    child::run(&mut deny)
}

impl Tool {
    /// The command; installs the tool on first use.
    fn command(&self, cache: &Cache, subcommand: &str) -> Result<Command> {
        let entry = format!("tools/{}-{}", self.name, self.version);
        let root = cache.path(&entry);
        let program = root.join("bin").join(self.name);
        if !program.exists() {
            let _lock = cache.lock(&entry)?;
            if !program.exists() {
                self.install(&root)?;
            }
        }
        let mut command = child::command(program);
        command.arg(subcommand).current_dir(ROOT);
        Ok(command)
    }

    fn install(&self, root: &Path) -> Result<()> {
        let Self { name, version } = self;
        eprintln!("xtask: building {name} {version} (some minutes)");
        let mut install = build::cargo();
        install
            .args(["install", "--locked", "--version", version, "--root"])
            .arg(root)
            .arg(name)
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off");
        child::run(&mut install)
    }
}
