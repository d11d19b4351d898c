//! Fetches Debian packages without changing the system: apt runs with its own configuration, sources and
//! state in the cache. Needs no root.
//!
//! The mirrors come from this machine's apt configuration or from the user. Signatures are checked against
//! the system's Debian keyring.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::cache::{Cache, Lock};
use crate::child;

pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The archive of a suite. Security updates have their own mirrors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    Main,
    Security,
}

#[derive(Clone, Copy, Debug)]
pub struct Suite {
    pub name: &'static str,
    pub archive: Archive,
}

/// Mirrors that replace those of this machine's apt configuration.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct MirrorArgs {
    /// Debian mirror to fetch from [default: the one in this machine's apt configuration]
    #[arg(long, env = "PINWATCH_MIRROR", value_name = "URL")]
    mirror: Option<String>,
    /// Debian security mirror [default: the one in this machine's apt configuration]
    #[arg(long, env = "PINWATCH_SECURITY_MIRROR", value_name = "URL")]
    security_mirror: Option<String>,
}

impl MirrorArgs {
    pub fn url(&self, archive: Archive) -> Result<String> {
        let (given, flag) = match archive {
            Archive::Main => (&self.mirror, "--mirror or PINWATCH_MIRROR"),
            Archive::Security => (
                &self.security_mirror,
                "--security-mirror or PINWATCH_SECURITY_MIRROR",
            ),
        };
        if let Some(url) = given {
            return Ok(url.clone());
        }
        let format = "$(REPO_URI)|$(RELEASE)|$(ORIGIN)";
        let mut list = child::command("apt-get");
        list.args(["indextargets", "--format", format, "Identifier: Packages"]);
        let targets =
            child::output(&mut list).context("cannot read this machine's apt configuration")?;
        find_mirror(&targets, archive).with_context(|| {
            format!("this machine's apt configuration has no Debian mirror: name one with {flag}")
        })
    }
}

/// Picks a mirror from apt's list of index files. An entry is Debian's if its Release file names Debian or,
/// if that was never downloaded, if its URL has Debian's layout.
fn find_mirror(targets: &str, archive: Archive) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut fields = line.split('|');
        let (uri, release, origin) = (fields.next()?, fields.next()?, fields.next()?);
        let uri = uri.trim_end_matches('/');
        let debian = match origin {
            "Debian" => true,
            "" => uri.ends_with("/debian") || uri.ends_with("/debian-security"),
            _ => false,
        };
        let security = release.ends_with("-security") || release.ends_with("/updates");
        (debian && security == (archive == Archive::Security)).then(|| uri.to_owned())
    })
}

/// One suite with updated package lists. Other xtasks wait until it is dropped.
pub struct Apt {
    config: PathBuf,
    _lock: Lock,
}

impl Apt {
    /// Prepares the private configuration for a suite and downloads its package lists.
    pub fn update(cache: &Cache, suite: Suite, arch: Arch, mirrors: &MirrorArgs) -> Result<Self> {
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: run `apt-get install debian-archive-keyring`");
        }
        let url = mirrors.url(suite.archive)?;
        let entry = format!("apt/{}{}", suite.name, arch.suffix());
        let lock = cache.lock(&entry)?;
        let dir = cache.path(&entry);
        fs::create_dir_all(dir.join("state/lists/partial"))?;
        fs::create_dir_all(dir.join("cache/archives/partial"))?;
        fs::write(
            dir.join("sources.list"),
            format!("deb [signed-by={KEYRING}] {url} {} main\n", suite.name),
        )?;
        let apt = Self {
            config: dir.join("apt.conf"),
            _lock: lock,
        };
        fs::write(&apt.config, configuration(&dir, arch)?)?;
        eprintln!(
            "xtask: reading the package lists of Debian's {} ({})",
            suite.name,
            arch.debian()
        );
        child::run(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    /// Names of all packages of the suite that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = child::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Names and versions of these packages and all their dependencies, on an empty system.
    pub fn with_dependencies(&self, packages: &[&str]) -> Result<Vec<(String, String)>> {
        let plan = child::output(
            self.command("apt-get")
                .args(["install", "--simulate", "--no-install-recommends"])
                .args(packages),
        )?;
        Ok(planned(&plan))
    }

    /// Downloads packages and unpacks them all into `root`.
    pub fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let debs = tempfile::tempdir_in(root.parent().context("no folder for the packages")?)?;
        eprintln!("xtask: downloading {}", packages.join(", "));
        child::run(
            self.command("apt-get")
                .arg("download")
                .args(packages)
                .current_dir(debs.path()),
        )?;
        for deb in fs::read_dir(debs.path())? {
            child::run(
                child::command("dpkg-deb")
                    .arg("--extract")
                    .arg(deb?.path())
                    .arg(root),
            )?;
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = child::command(program);
        command
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C.UTF-8");
        command
    }
}

/// Names and versions in lines such as `Inst libc6 (2.41-12 Debian:13/stable [amd64])`.
fn planned(plan: &str) -> Vec<(String, String)> {
    let packages = plan.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    });
    packages.collect()
}

/// A configuration with this machine's proxies, certificates and time-outs, but its own paths and sources,
/// and without hooks.
fn configuration(dir: &Path, arch: Arch) -> Result<String> {
    let dump = child::output(child::command("apt-config").arg("dump"))?;
    let mut text = String::new();
    for line in dump.lines() {
        if line.starts_with("Acquire::") && !line.starts_with("Acquire::IndexTargets") {
            writeln!(text, "{line}")?;
        }
    }
    let (dir, arch) = (dir.display(), arch.debian());
    write!(
        text,
        r#"Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "{dir}/state";
Dir::State::status "/dev/null";
Dir::Cache "{dir}/cache";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
"#
    )?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
https://apt.example.com/|bookworm|Example
https://mirror.example.org/ubuntu/|noble-security|Ubuntu
https://mirror.example.org/d/|bookworm|Debian
https://mirror.example.org/s/|bookworm-security|Debian
";

    #[test]
    fn mirrors_are_found_by_origin() {
        assert_eq!(
            find_mirror(TARGETS, Archive::Main).unwrap(),
            "https://mirror.example.org/d"
        );
        assert_eq!(
            find_mirror(TARGETS, Archive::Security).unwrap(),
            "https://mirror.example.org/s"
        );
    }

    #[test]
    fn planned_packages() {
        let plan = "Inst libc6 (2.41-12 Debian:13.7/stable [amd64]) []\nConf libc6 (2.41-12 x)\n";
        assert_eq!(planned(plan), [("libc6".to_owned(), "2.41-12".to_owned())]);
    }

    #[test]
    fn mirrors_are_found_by_layout_before_any_update() {
        let targets = "http://a.example/x|bookworm|\nhttp://b.example/debian/|bookworm|\n";
        assert_eq!(
            find_mirror(targets, Archive::Main).unwrap(),
            "http://b.example/debian"
        );
        assert_eq!(find_mirror(targets, Archive::Security), None);
    }
}
