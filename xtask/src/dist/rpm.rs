//! The rpm package, made by rpmbuild and checked by rpmlint.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::release::{Program, ROOT, Release};
use super::stage::{self, Format};
use crate::child;

/// Makes a package with an rpm release number in the folder `to`.
pub fn make(release: &Release<'_>, program: &Program, number: &str, to: &Path) -> Result<PathBuf> {
    let rpm = program.arch.rpm;
    let root = release.stage.join(format!("rpm-{rpm}"));
    stage::fill(release, program, Format::Rpm, &root)?;
    let work = release.stage.join("rpmbuild");
    let date = release.date("+%a %b %d %Y")?;
    let mut build = release.command("rpmbuild");
    build.args(["-bb", "--quiet", "--target", rpm]);
    for (name, value) in [
        ("_topdir", work.display().to_string()),
        ("_rpmdir", work.join("RPMS").display().to_string()),
        ("stage", root.display().to_string()),
        ("release_version", release.version.clone()),
        ("release_number", number.to_owned()),
        ("release_date", date),
        // The same sources make the same package, on any machine.
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
        ("_binary_payload", "w9.gzdio".to_owned()),
    ] {
        build.args(["--define", &format!("{name} {value}")]);
    }
    build.arg(Path::new(ROOT).join("packaging/rpm/pinwatch.spec"));
    child::run(&mut build)?;
    let name = format!("pinwatch-{}-{number}.{rpm}.rpm", release.version);
    let made = work.join("RPMS").join(rpm).join(&name);
    let package = to.join(name);
    fs::create_dir_all(to)?;
    fs::copy(&made, &package).with_context(|| format!("rpmbuild made no {}", made.display()))?;
    Ok(package)
}

/// Fails on any error and any warning of rpmlint.
pub fn lint(package: &Path) -> Result<()> {
    let mut rpmlint = child::command("rpmlint");
    rpmlint
        .args(["--strict", "--config"])
        .arg(Path::new(ROOT).join("packaging/rpm/rpmlint.toml"))
        .arg(package);
    child::run(&mut rpmlint)
}
