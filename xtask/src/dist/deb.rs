//! The Debian package, made by dpkg-deb and checked by lintian.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::release::{Program, ROOT, Release};
use super::stage::{self, Format};
use crate::child;

/// Makes a package with a Debian revision in the folder `to`.
pub fn make(
    release: &Release<'_>,
    program: &Program,
    revision: &str,
    to: &Path,
) -> Result<PathBuf> {
    let deb = program.arch.deb;
    let root = release.stage.join(format!("deb-{deb}"));
    stage::fill(release, program, Format::Deb, &root)?;
    let version = format!("{}-{revision}", release.version);
    let docs = root.join("usr/share/doc/pinwatch");
    fs::write(docs.join("copyright"), copyright()?)?;
    fs::write(docs.join("changelog.Debian"), changelog(release, &version)?)?;
    fs::copy(Path::new(ROOT).join("CHANGELOG.md"), docs.join("changelog"))?;
    let mut gzip = release.command("gzip");
    gzip.arg("-9n")
        .args(["changelog", "changelog.Debian"].map(|name| docs.join(name)));
    child::run(&mut gzip)?;
    control(release, &root, &version, deb)?;
    let package = to.join(format!("pinwatch_{version}_{deb}.deb"));
    fs::create_dir_all(to)?;
    let mut build = release.command("dpkg-deb");
    build
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(&root)
        .arg(&package);
    child::run(&mut build)?;
    Ok(package)
}

/// Fails on any error and any warning of lintian.
pub fn lint(package: &Path) -> Result<()> {
    let mut lintian = child::command("lintian");
    lintian
        .args(["--allow-root", "--fail-on", "error,warning"])
        .arg(package);
    child::run(&mut lintian)
}

/// The files that dpkg itself reads.
fn control(release: &Release<'_>, root: &Path, version: &str, deb: &str) -> Result<()> {
    let mut find = release.command("find");
    find.args(["etc", "usr", "-type", "f", "-printf", "%k %p\n"])
        .current_dir(root);
    let list = child::output(&mut find)?;
    let files = list.lines().filter_map(|line| line.split_once(' '));
    let mut paths: Vec<_> = files.clone().map(|(_, path)| path).collect();
    paths.sort_unstable();
    let size: u64 = files.map(|(kib, _)| kib.parse().unwrap_or(0)).sum();
    let mut md5sum = release.command("md5sum");
    let sums = child::output(md5sum.args(&paths).current_dir(root))?;
    let folder = root.join("DEBIAN");
    fs::create_dir(&folder)?;
    fs::write(folder.join("md5sums"), sums)?;
    let mut conffiles = String::new();
    for path in paths.iter().filter(|path| path.starts_with("etc/")) {
        writeln!(conffiles, "/{path}")?;
    }
    fs::write(folder.join("conffiles"), conffiles)?;
    let template = read("packaging/debian/control")?;
    let text = template
        .replace("@VERSION@", version)
        .replace("@ARCH@", deb)
        .replace("@SIZE@", &size.to_string());
    fs::write(folder.join("control"), text)?;
    for script in ["postinst", "prerm", "postrm"] {
        let path = folder.join(script);
        fs::copy(Path::new(ROOT).join("packaging/debian").join(script), &path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Debian's form: a license that Debian does not have is written out, indented by a space.
fn copyright() -> Result<String> {
    let mut mit = String::new();
    for line in read("LICENSE-MIT")?.trim_end().lines().skip(4) {
        writeln!(mit, " {}", if line.is_empty() { "." } else { line })?;
    }
    Ok(read("packaging/debian/copyright")?.replace("@MIT@", mit.trim_end_matches('\n')))
}

fn changelog(release: &Release<'_>, version: &str) -> Result<String> {
    let date = release.date("+%a, %d %b %Y %H:%M:%S +0000")?;
    Ok(format!(
        "pinwatch ({version}) unstable; urgency=medium\n\n  * Release {}: changelog.gz has the changes.\n\n \
         -- The pinwatch developers <pinwatch@example.org>  {date}\n",
        release.version
    ))
}

fn read(file: &str) -> Result<String> {
    let path = Path::new(ROOT).join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
