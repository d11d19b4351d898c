//! Files of a release that are no packages: the archive for systems without a package, the chart, the image
//! and the checksums.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::release::{Program, ROOT, Release};
use super::stage::{self, copy};
use crate::child;

/// What the archive has beside the program, the manual pages and the completions. `install.md` says how to
/// use it.
const BESIDE: &[(&str, &str)] = &[
    ("README.md", "./"),
    ("CHANGELOG.md", "./"),
    ("LICENSE-APACHE", "./"),
    ("LICENSE-GPL2", "./"),
    ("LICENSE-MIT", "./"),
    ("packaging/default", "systemd/default"),
    ("packaging/debian-kernel.conf", "systemd/"),
    ("packaging/pinwatch.service", "systemd/"),
    ("packaging/pinwatch.socket", "systemd/"),
    ("packaging/pinwatch.sysusers", "systemd/"),
    ("dashboards/pinwatch-fleet.json", "dashboards/"),
    ("dashboards/pinwatch-host.json", "dashboards/"),
    ("dashboards/pinwatch-kernels.json", "dashboards/"),
    ("dashboards/pinwatch-alerts.yml", "dashboards/"),
    ("dashboards/prometheus.yml", "dashboards/"),
];

/// The static program and everything to run it by hand.
pub fn tar(release: &Release<'_>, program: &Program) -> Result<PathBuf> {
    let parent = release.stage.join(format!("tar-{}", program.arch.rpm));
    let name = format!("pinwatch-{}-{}", release.version, program.arch.rpm);
    let folder = parent.join(&name);
    copy(&program.path, &folder, "pinwatch", 0o755)?;
    for (from, to) in BESIDE {
        copy(&Path::new(ROOT).join(from), &folder, to, 0o644)?;
    }
    for (from, to) in [
        (stage::manual(release)?, "manual"),
        (Path::new(ROOT).join("docs"), "docs"),
    ] {
        for file in fs::read_dir(from)? {
            let file = file?.path();
            if file.is_file() {
                copy(&file, &folder, &format!("{to}/"), 0o644)?;
            }
        }
    }
    let archive = release.dist.join(format!("{name}.tar.gz"));
    release.archive(&parent, &name, &archive)?;
    Ok(archive)
}

/// The Helm chart, as `helm package` names it.
pub fn chart(release: &Release<'_>) -> Result<PathBuf> {
    let archive = release
        .dist
        .join(format!("pinwatch-chart-{}.tgz", release.version));
    let helm = Path::new(ROOT).join("packaging/helm");
    release.archive(&helm, "pinwatch", &archive)?;
    Ok(archive)
}

/// What `buildah` and `podman` need to make the image in target/dist, and one DaemonSet.
pub fn recipes(release: &Release<'_>) -> Result<()> {
    for file in [
        "packaging/Containerfile",
        "packaging/daemonset.yml",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-GPL2",
        "LICENSE-MIT",
    ] {
        copy(&Path::new(ROOT).join(file), &release.dist, "./", 0o644)?;
    }
    Ok(())
}

/// The container image as an OCI archive. It needs no base image, so it needs no network.
pub fn image(release: &Release<'_>, program: &Program) -> Result<PathBuf> {
    let deb = program.arch.deb;
    let name = format!("pinwatch:{}", release.version);
    let archive = release
        .dist
        .join(format!("pinwatch-{}-{deb}.oci.tar", release.version));
    let buildah = || {
        let mut buildah = release.command("buildah");
        buildah
            .arg("--root")
            .arg(release.stage.join("images"))
            .arg("--runroot")
            .arg(release.stage.join("images-run"))
            .args(["--storage-driver", "vfs"]);
        buildah
    };
    let mut build = buildah();
    build
        .args(["build", "--isolation", "chroot", "--platform"])
        .arg(format!("linux/{deb}"))
        .args(["--timestamp", &release.epoch, "--tag", &name])
        .arg(&release.dist);
    child::run(&mut build)?;
    let mut push = buildah();
    push.args(["push", "--quiet", &name])
        .arg(format!("oci-archive:{}:{name}", archive.display()));
    child::run(&mut push)?;
    Ok(archive)
}

/// SHA256SUMS of all files of the release, for `sha256sum --check`.
pub fn checksums(release: &Release<'_>) -> Result<()> {
    let files = files(&release.dist)?;
    let names = files.iter().map(|(name, _)| name);
    let mut sums = release.command("sha256sum");
    let sums = child::output(sums.args(names).current_dir(&release.dist))?;
    fs::write(release.dist.join("SHA256SUMS"), sums)?;
    Ok(())
}

/// Names of all files below a folder, and their sizes, sorted by name.
pub fn files(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut find = child::command("find");
    find.args([".", "-type", "f", "-printf", "%s %P\n"])
        .current_dir(folder);
    let list = child::output(&mut find)?;
    let files = list.lines().filter_map(|line| line.split_once(' '));
    let mut files: Vec<_> = files
        .map(|(size, name)| (name.to_owned(), size.parse().unwrap_or(0)))
        .collect();
    files.sort();
    Ok(files)
}
