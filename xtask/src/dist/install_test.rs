//! Tests the package on Debian 12 with systemd, Prometheus and Alertmanager, on a stock kernel. This file makes
//! the disk and boots it; `install_test/test.sh` is the test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::cache::Cache;
use crate::child;
use crate::debian::apt::{Archive, KEYRING, MirrorArgs};
use crate::debian::kernels::{Flavour, Kernel};
use crate::guest::qemu::Sinks;
use crate::guest::{Guest, Placed};

const SUITE: &str = "bookworm";
const PACKAGES: &str =
    "systemd,systemd-sysv,prometheus,prometheus-alertmanager,curl,jq,openssl,ca-certificates";
const DISK: &str = "disk.ext4";
const DISK_SIZE: &str = "2G";
const TIMEOUT: Duration = Duration::from_secs(900);
const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];

/// Installs, uses, upgrades and removes a package. Fails if any step does.
pub fn run(
    kernel: &'static Kernel,
    cache: &Cache,
    mirrors: &MirrorArgs,
    package: &Path,
    upgrade: &Path,
) -> Result<()> {
    let disk = disk(cache, mirrors)?;
    let dir = TempDir::with_prefix("pinwatch-install-")?;
    let written = |name: &str, text: &str| -> Result<PathBuf> {
        let path = dir.path().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(path)
    };
    let placed = |host: PathBuf, guest: &str| Placed {
        host,
        guest: guest.to_owned(),
    };
    // Before 6.5 a pin cannot wait for a userfaultfd. A thread of higher priority keeps it off its processor
    // instead, longer than the kernel waits before it reports an RCU stall.
    let (stuck, append) = match kernel.series {
        "5.10" | "6.1" => ("starved", "rcupdate.rcu_cpu_stall_suppress=1"),
        _ => ("slow", ""),
    };
    let guest = Guest {
        kernel,
        flavour: Flavour::Cloud,
        own: None,
        files: vec![
            placed(
                written("init", include_str!("install_test/init.sh"))?,
                "/init",
            ),
            placed(
                written("test.sh", include_str!("install_test/test.sh"))?,
                "/install_test/test.sh",
            ),
            placed(written("stuck", stuck)?, "/install_test/stuck"),
            placed(package.to_owned(), "/install_test/first.deb"),
            placed(upgrade.to_owned(), "/install_test/second.deb"),
        ],
        modules: MODULES.map(str::to_owned).to_vec(),
        append: vec![append.to_owned()],
        memory_mib: 3072,
        cpus: 2,
        forwards: Vec::new(),
        qemu_args: [
            "-drive",
            // Writes are discarded when the guest ends.
            &format!(
                "file={},if=none,id=disk,format=raw,snapshot=on",
                disk.display()
            ),
            "-device",
            "virtio-blk-pci,drive=disk",
        ]
        .map(str::to_owned)
        .to_vec(),
        timeout: Some(TIMEOUT),
        command: Vec::new(),
    };
    let sinks = Sinks {
        out: Box::new(std::io::stdout()),
        err: Box::new(std::io::stderr()),
    };
    match guest.run(cache, mirrors, sinks)? {
        0 => Ok(()),
        status => bail!(
            "the install test on {} failed with status {status}",
            kernel.series
        ),
    }
}

/// A disk with Debian on it, from the cache or from the network.
fn disk(cache: &Cache, mirrors: &MirrorArgs) -> Result<PathBuf> {
    let entry = format!("install_test/{SUITE}");
    let disk = cache.path(&entry).join(DISK);
    if disk.exists() {
        return Ok(disk);
    }
    let _lock = cache.lock(&entry)?;
    if disk.exists() {
        return Ok(disk);
    }
    eprintln!("xtask: making a disk with Debian {SUITE}");
    let scratch = cache.scratch()?;
    let (root, made) = (scratch.path().join("root"), scratch.path().join("made"));
    fs::create_dir(&made)?;
    let mut debootstrap = child::command("debootstrap");
    debootstrap
        .args(["--variant=minbase", "--keyring", KEYRING])
        .arg(format!("--include={PACKAGES}"))
        .arg(SUITE)
        .arg(&root)
        .arg(mirrors.url(Archive::Main)?);
    child::run(&mut debootstrap)?;
    let mut mkfs = child::command("mkfs.ext4");
    mkfs.args(["-q", "-d"])
        .arg(&root)
        .arg(made.join(DISK))
        .arg(DISK_SIZE);
    child::run(&mut mkfs)?;
    Ok(cache.publish(&made, &entry)?.join(DISK))
}
