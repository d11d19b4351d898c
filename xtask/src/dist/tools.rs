//! Licences and parts of the program: a software bill of materials, and the check of all dependencies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::release::{Program, ROOT, Release};
use crate::build;
use crate::cache::Cache;
use crate::child;

/// A cargo subcommand that no distribution packages: crate and version for `cargo install`.
struct Tool {
    name: &'static str,
    version: &'static str,
}

const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};
const PARTS: Tool = Tool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
};

/// A software bill of materials of the program for one architecture, in CycloneDX.
pub fn parts(release: &Release<'_>, program: &Program) -> Result<PathBuf> {
    const NAME: &str = "pinwatch.cdx";
    let mut parts = PARTS.command(release.cache, "cyclonedx")?;
    parts
        .env("SOURCE_DATE_EPOCH", &release.epoch)
        .args(["--format", "json", "--target", program.arch.target])
        .args(["--override-filename", NAME]);
    child::run(&mut parts)?;
    let list = release.dist.join(format!(
        "pinwatch-{}-{}.cdx.json",
        release.version, program.arch.rpm
    ));
    // The tool writes one file beside the manifest of each member.
    for member in [
        "pinwatch",
        "pinwatch-common",
        "pinwatch-ebpf",
        "pinwatch/fuzz",
        "pinwatch-load",
        "xtask",
    ] {
        let made = Path::new(ROOT).join(member).join(format!("{NAME}.json"));
        if member == "pinwatch" {
            // The identifiers contain paths of this machine.
            let root = Path::new(ROOT).canonicalize()?.display().to_string();
            fs::write(&list, fs::read_to_string(&made)?.replace(&root, ""))?;
        }
        let _ = fs::remove_file(&made);
    }
    Ok(list)
}

/// Checks licences and sources of all dependencies against `.cargo/deny.toml`.
pub fn check_licences(cache: &Cache) -> Result<()> {
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
