//! Installs, upgrades, removes and purges the Debian package in a folder with its own database.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::release::{Program, Release};
use super::root::Root;
use crate::child;
use crate::debian::apt::MirrorArgs;

const RECORDED: [&str; 4] = [
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "systemctl",
    "systemd-sysusers",
];

/// What the scripts call, from the installation to the purge.
const CALLS: &str = "\
systemd-sysusers pinwatch.conf
deb-systemd-helper unmask pinwatch.socket
deb-systemd-helper --quiet was-enabled pinwatch.socket
deb-systemd-helper enable pinwatch.socket
deb-systemd-helper unmask pinwatch.service
deb-systemd-helper --quiet was-enabled pinwatch.service
deb-systemd-helper enable pinwatch.service
systemctl --system daemon-reload
deb-systemd-invoke start pinwatch.socket pinwatch.service
systemd-sysusers pinwatch.conf
deb-systemd-helper unmask pinwatch.socket
deb-systemd-helper --quiet was-enabled pinwatch.socket
deb-systemd-helper enable pinwatch.socket
deb-systemd-helper unmask pinwatch.service
deb-systemd-helper --quiet was-enabled pinwatch.service
deb-systemd-helper enable pinwatch.service
systemctl --system daemon-reload
deb-systemd-invoke restart pinwatch.socket pinwatch.service
deb-systemd-invoke stop pinwatch.service pinwatch.socket
systemctl --system daemon-reload
deb-systemd-helper purge pinwatch.socket pinwatch.service
";

pub fn run(
    release: &Release<'_>,
    mirrors: &MirrorArgs,
    program: &Program,
    package: &Path,
    upgrade: &Path,
) -> Result<()> {
    let name = format!("deb-root-{}", program.arch.deb);
    let root = Root::create(release, mirrors, &name, &RECORDED)?;
    // The scripts look here for a running systemd.
    fs::create_dir_all(root.path.join("run/systemd/system"))?;
    let database = root.path.join("var/lib/dpkg");
    fs::create_dir_all(database.join("info"))?;
    fs::create_dir(database.join("updates"))?;
    fs::write(database.join("status"), "")?;
    let dpkg = |action: &str, what: &Path| -> Result<()> {
        let mut dpkg = release.command("dpkg");
        dpkg.arg("--root")
            .arg(&root.path)
            .arg("--log")
            .arg(root.path.join("log"))
            // The folder has no systemd, and may be for another architecture.
            .args(["--force-depends", "--force-architecture", action])
            .arg(what);
        child::run(&mut dpkg)
    };
    dpkg("--install", package)?;
    root.check_installed(program)?;
    dpkg("--install", upgrade)?;
    root.check_upgraded()?;
    dpkg("--remove", Path::new("pinwatch"))?;
    root.check_upgraded()?;
    dpkg("--purge", Path::new("pinwatch"))?;
    root.check_removed("")?;
    root.check_calls(CALLS)
}
