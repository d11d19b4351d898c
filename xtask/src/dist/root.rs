//! A folder that a package is installed in, on any machine. Scripts of the package run in the folder, where
//! programs of systemd write down their arguments.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::release::{Program, Release};
use crate::arch::Arch;
use crate::child;
use crate::debian::apt::MirrorArgs;
use crate::debian::programs::busybox;

/// In place of systemd's programs. The shell is busybox.
const RECORDER: &str = "#!/bin/sh\necho \"${0##*/} $*\" >>/calls\n";
const OPTIONS: &str = "OPTIONS=--stuck-after=5s\n";

pub struct Root {
    pub path: PathBuf,
}

impl Root {
    /// A folder with a shell and a recorder for each of `programs`.
    pub fn create(
        release: &Release<'_>,
        mirrors: &MirrorArgs,
        name: &str,
        programs: &[&str],
    ) -> Result<Self> {
        let path = release.stage.join(name);
        let bin = path.join("usr/bin");
        fs::create_dir_all(&bin)?;
        // An ordinary file serves the scripts as well.
        fs::create_dir(path.join("dev"))?;
        fs::write(path.join("dev/null"), "")?;
        symlink("usr/bin", path.join("bin"))?;
        let busybox = busybox(Arch::X86_64)
            .fetch(release.cache, mirrors)?
            .join("busybox");
        fs::copy(busybox, bin.join("sh"))?;
        for name in programs {
            let path = bin.join(name);
            fs::write(&path, RECORDER)?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        Ok(Self { path })
    }

    fn options(&self) -> PathBuf {
        self.path.join("etc/default/pinwatch")
    }

    /// Fails unless the installed program is that of the release. Then changes the options, as a user does.
    pub fn check_installed(&self, program: &Program) -> Result<()> {
        let installed = self.path.join("usr/bin/pinwatch");
        let read = |path: &Path| fs::read(path).with_context(|| format!("no {}", path.display()));
        ensure!(
            read(&installed)? == read(&program.path)?,
            "the package installs another program"
        );
        fs::write(self.options(), OPTIONS)?;
        Ok(())
    }

    /// Fails unless the upgrade left the changed options.
    pub fn check_upgraded(&self) -> Result<()> {
        let kept = fs::read_to_string(self.options()).context("the upgrade removed the options")?;
        ensure!(kept == OPTIONS, "the upgrade replaced the user's options");
        Ok(())
    }

    /// Fails if the removal left anything but `kept`.
    pub fn check_removed(&self, kept: &str) -> Result<()> {
        let mut find = child::command("find");
        find.args([".", "-path", "*pinwatch*"])
            .current_dir(&self.path);
        let left = child::output(&mut find)?;
        if let Some(path) = left.lines().find(|path| *path != kept) {
            bail!("the removal leaves {path}");
        }
        Ok(())
    }

    /// Fails unless the scripts called the recorders exactly so.
    pub fn check_calls(&self, expected: &str) -> Result<()> {
        let calls = fs::read_to_string(self.path.join("calls")).context("no script ran")?;
        ensure!(
            calls == expected,
            "the scripts of the package made these calls:\n{calls}instead of:\n{expected}"
        );
        Ok(())
    }
}
