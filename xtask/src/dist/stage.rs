//! The files of a Debian or rpm package, each in its place below a folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::release::{Program, ROOT, Release};
use crate::child;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Deb,
    Rpm,
}

/// A file of the sources, and where packages install it. A path that ends with a slash is a folder.
struct Installed {
    from: &'static str,
    to: &'static str,
    only: Option<Format>,
}

const fn both(from: &'static str, to: &'static str) -> Installed {
    Installed {
        from,
        to,
        only: None,
    }
}

const fn only(format: Format, from: &'static str, to: &'static str) -> Installed {
    Installed {
        from,
        to,
        only: Some(format),
    }
}

const FILES: &[Installed] = &[
    both("packaging/default", "etc/default/pinwatch"),
    both("packaging/pinwatch.service", "usr/lib/systemd/system/"),
    both("packaging/pinwatch.socket", "usr/lib/systemd/system/"),
    both(
        "packaging/pinwatch.sysusers",
        "usr/lib/sysusers.d/pinwatch.conf",
    ),
    both(
        "dashboards/pinwatch-fleet.json",
        "usr/share/pinwatch/dashboards/",
    ),
    both(
        "dashboards/pinwatch-host.json",
        "usr/share/pinwatch/dashboards/",
    ),
    both(
        "dashboards/pinwatch-kernels.json",
        "usr/share/pinwatch/dashboards/",
    ),
    both(
        "dashboards/provisioning/dashboards.yml",
        "usr/share/pinwatch/provisioning/",
    ),
    both(
        "dashboards/provisioning/datasource.yml",
        "usr/share/pinwatch/provisioning/",
    ),
    both("dashboards/pinwatch-alerts.yml", "usr/share/pinwatch/"),
    both("dashboards/prometheus.yml", "usr/share/pinwatch/"),
    both("docs/runbook.md", "usr/share/doc/pinwatch/"),
    // Only Debian's kernels need it.
    only(
        Format::Deb,
        "packaging/debian-kernel.conf",
        "usr/lib/systemd/system/pinwatch.service.d/",
    ),
    only(
        Format::Deb,
        "packaging/debian/lintian-overrides",
        "usr/share/lintian/overrides/pinwatch",
    ),
    only(Format::Rpm, "CHANGELOG.md", "usr/share/doc/pinwatch/"),
    only(
        Format::Rpm,
        "LICENSE-APACHE",
        "usr/share/licenses/pinwatch/",
    ),
    only(Format::Rpm, "LICENSE-GPL2", "usr/share/licenses/pinwatch/"),
    only(Format::Rpm, "LICENSE-MIT", "usr/share/licenses/pinwatch/"),
];

/// Fills `to` with the files of a package.
pub fn fill(release: &Release<'_>, program: &Program, format: Format, to: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(to);
    let root = Path::new(ROOT);
    copy(&program.path, to, "usr/bin/pinwatch", 0o755)?;
    for file in FILES {
        if file.only.is_none_or(|only| only == format) {
            copy(&root.join(file.from), to, file.to, 0o644)?;
        }
    }
    let zsh = match format {
        Format::Deb => "usr/share/zsh/vendor-completions/",
        Format::Rpm => "usr/share/zsh/site-functions/",
    };
    let manual = manual(release)?;
    for (name, place) in [
        (
            "pinwatch.bash",
            "usr/share/bash-completion/completions/pinwatch",
        ),
        ("_pinwatch", zsh),
        ("pinwatch.fish", "usr/share/fish/vendor_completions.d/"),
    ] {
        copy(&manual.join(name), to, place, 0o644)?;
    }
    for page in fs::read_dir(&manual)? {
        let page = page?.path();
        if page.extension().is_some_and(|end| end == "1") {
            copy(&page, to, "usr/share/man/man1/", 0o644)?;
        }
    }
    let mut gzip = release.command("gzip");
    gzip.args(["-9n", "--recursive"])
        .arg(to.join("usr/share/man"));
    child::run(&mut gzip)
}

/// The folder with manual pages and completions, which the program writes.
pub fn manual(release: &Release<'_>) -> Result<std::path::PathBuf> {
    let manual = release.stage.join("manual");
    if !manual.exists() {
        let program = &release.host().path;
        child::run(child::command(program).arg("manual").arg(&manual))?;
    }
    Ok(manual)
}

/// Copies a file below `root`, with its folders.
pub fn copy(from: &Path, root: &Path, to: &str, mode: u32) -> Result<()> {
    let mut path = root.join(to);
    if to.ends_with('/') {
        path.push(from.file_name().context("a file has a name")?);
    }
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)?;
    fs::copy(from, &path).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(&path, Permissions::from_mode(mode))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn packages_have_every_dashboard_and_every_unit() {
        let listed: BTreeSet<_> = FILES.iter().map(|file| file.from.to_owned()).collect();
        for (folder, ends) in [
            ("dashboards", "json"),
            ("packaging", "service socket sysusers"),
        ] {
            for entry in fs::read_dir(Path::new(ROOT).join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let end = name.rsplit('.').next().unwrap();
                if ends.split(' ').any(|one| one == end) {
                    let path = format!("{folder}/{name}");
                    assert!(listed.contains(&path), "no package has {path}");
                }
            }
        }
        for file in listed {
            assert!(Path::new(ROOT).join(&file).is_file(), "{file} is missing");
        }
    }
}
