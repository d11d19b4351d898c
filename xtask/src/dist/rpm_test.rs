//! Installs, upgrades and removes the rpm package in a folder with its own database. Debian's rpm does that
//! on any machine.

use std::path::Path;

use anyhow::Result;

use super::release::{Program, Release};
use super::root::Root;
use crate::child;
use crate::debian::apt::MirrorArgs;

/// What the scripts call, from the installation to the removal.
const CALLS: &str = "\
systemd-sysusers pinwatch.conf
systemctl daemon-reload
systemctl --no-reload preset pinwatch.socket pinwatch.service
systemd-sysusers pinwatch.conf
systemctl daemon-reload
systemctl daemon-reload
systemctl try-restart pinwatch.socket pinwatch.service
systemctl --no-reload disable --now pinwatch.service pinwatch.socket
systemctl daemon-reload
";

pub fn run(
    release: &Release<'_>,
    mirrors: &MirrorArgs,
    program: &Program,
    package: &Path,
    upgrade: &Path,
) -> Result<()> {
    let name = format!("rpm-root-{}", program.arch.rpm);
    let root = Root::create(release, mirrors, &name, &["systemctl", "systemd-sysusers"])?;
    let rpm = |args: &[&str], file: Option<&Path>| -> Result<()> {
        let mut rpm = release.command("rpm");
        rpm.arg("--root").arg(&root.path).args(args).args(file);
        child::run(&mut rpm)
    };
    // The folder has no systemd, and may be for another architecture.
    let lax = ["--nodeps", "--ignorearch"];
    rpm(&["--initdb"], None)?;
    rpm(&["--install", lax[0], lax[1]], Some(package))?;
    root.check_installed(program)?;
    rpm(&["--upgrade", lax[0], lax[1]], Some(upgrade))?;
    root.check_upgraded()?;
    rpm(&["--erase", "pinwatch"], None)?;
    // rpm keeps a changed file of the user beside its old place.
    root.check_removed("./etc/default/pinwatch.rpmsave")?;
    root.check_calls(CALLS)
}
