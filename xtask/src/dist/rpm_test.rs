//! Installs, upgrades and removes the rpm package in a folder with its own database. Debian's rpm does that
//! on any machine. Scripts of the package run in the folder, where `systemctl` writes down its arguments.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::release::{Program, Release};
use crate::arch::Arch;
use crate::child;
use crate::debian::apt::MirrorArgs;
use crate::debian::programs::busybox;

/// In place of systemctl and systemd-sysusers. The shell is busybox.
const RECORDER: &str = "#!/bin/sh\necho \"${0##*/} $*\" >>/calls\n";

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
    let root = release.stage.join(format!("rpm-root-{}", program.arch.rpm));
    let bin = root.join("usr/bin");
    fs::create_dir_all(&bin)?;
    // An ordinary file serves the scripts as well.
    fs::create_dir(root.join("dev"))?;
    fs::write(root.join("dev/null"), "")?;
    std::os::unix::fs::symlink("usr/bin", root.join("bin"))?;
    let busybox = busybox(Arch::X86_64)
        .fetch(release.cache, mirrors)?
        .join("busybox");
    fs::copy(busybox, bin.join("sh"))?;
    for name in ["systemctl", "systemd-sysusers"] {
        let path = bin.join(name);
        fs::write(&path, RECORDER)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    let rpm = |args: &[&str], file: Option<&Path>| -> Result<()> {
        let mut rpm = release.command("rpm");
        rpm.arg("--root").arg(&root).args(args).args(file);
        child::run(&mut rpm)
    };
    // The folder has no systemd, and may be for another architecture.
    let lax = ["--nodeps", "--ignorearch"];
    rpm(&["--initdb"], None)?;
    rpm(&["--install", lax[0], lax[1]], Some(package))?;
    let installed = root.join("usr/bin/pinwatch");
    let read = |path: &Path| fs::read(path).with_context(|| format!("no {}", path.display()));
    ensure!(
        read(&installed)? == read(&program.path)?,
        "the rpm package installs another program"
    );
    let options = root.join("etc/default/pinwatch");
    fs::write(&options, "OPTIONS=--stuck-after=5s\n")?;
    rpm(&["--upgrade", lax[0], lax[1]], Some(upgrade))?;
    let kept = fs::read_to_string(&options).context("the upgrade removed the options")?;
    ensure!(
        kept.contains("stuck-after"),
        "the upgrade of the rpm package replaced the user's options"
    );
    rpm(&["--erase", "pinwatch"], None)?;
    let mut find = child::command("find");
    find.args([".", "-path", "*pinwatch*"]).current_dir(&root);
    let left = child::output(&mut find)?;
    // rpm keeps a changed file of the user beside its old place.
    let mut left = left
        .lines()
        .filter(|path| *path != "./etc/default/pinwatch.rpmsave");
    if let Some(path) = left.next() {
        bail!("the removal of the rpm package leaves {path}");
    }
    let calls = fs::read_to_string(root.join("calls")).context("no script ran")?;
    ensure!(
        calls == CALLS,
        "the scripts of the rpm package made these calls:\n{calls}instead of:\n{CALLS}"
    );
    Ok(())
}
