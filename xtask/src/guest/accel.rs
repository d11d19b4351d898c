//! Chooses the accelerator of a guest: KVM if a guest really boots with it, else QEMU's emulator.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rustix::fs::{Access, access};
use tempfile::TempDir;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::child::Interrupted;
use crate::debian::kernels::Fetched;
use crate::guest::initrd::Initrd;
use crate::guest::qemu::{self, Accel, Ending, Machine, Sinks, Tcg};

/// With a working KVM the guest ends within a second or two.
const PATIENCE: Duration = Duration::from_secs(20);

/// The accelerator for guests. A test boot decides whether KVM works, once per boot of this host and version
/// of QEMU: inside another virtual machine /dev/kvm may open and KVM fail later.
pub fn choose(cache: &Cache, kernel: &Fetched, arch: Arch, busybox: &Path) -> Result<Accel> {
    if arch != Arch::X86_64 {
        return Ok(Accel::Tcg(Tcg::Threads));
    }
    let version = qemu::version()?;
    let tcg = Accel::Tcg(Tcg::of_version(version));
    if access("/dev/kvm", Access::READ_OK | Access::WRITE_OK).is_err() {
        return Ok(tcg);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let key = format!("{version} {}", boot.trim());
    let verdict = cache.path("kvm");
    let _lock = cache.lock("kvm")?;
    let works = match fs::read_to_string(&verdict)
        .ok()
        .as_deref()
        .and_then(|text| text.strip_prefix(&key))
    {
        Some(works) => works.trim() == "works",
        None => {
            eprintln!(
                "xtask: testing whether KVM works here (at most {} s)",
                PATIENCE.as_secs()
            );
            let works = try_kvm(kernel, busybox)?;
            eprintln!(
                "xtask: {}",
                if works {
                    "KVM works"
                } else {
                    "KVM does not work: guests are emulated"
                }
            );
            fs::write(
                &verdict,
                format!("{key} {}", if works { "works" } else { "fails" }),
            )?;
            works
        }
    };
    Ok(if works { Accel::Kvm } else { tcg })
}

fn try_kvm(kernel: &Fetched, busybox: &Path) -> Result<bool> {
    let dir = TempDir::with_prefix("pinwatch-kvm-")?;
    let path = dir.path().join("initrd");
    let mut initrd = Initrd::create(&path)?;
    for folder in ["proc", "sys", "run", "tmp", "root"] {
        initrd.folder(folder)?;
    }
    initrd.copy(busybox, "bin/busybox")?;
    initrd.file("init", 0o755, include_bytes!("init.sh"))?;
    initrd.file("etc/xtask/modules", 0o644, b"")?;
    initrd.file("etc/xtask/command", 0o644, b"true\n")?;
    initrd.finish()?;
    let machine = Machine {
        arch: Arch::X86_64,
        accel: Accel::Kvm,
        vmlinux: &kernel.vmlinux(),
        initrd: &path,
        append: "console=ttyS0 panic=-1".to_owned(),
        memory_mib: 512,
        cpus: 2,
        forwards: &[],
        more: &[],
        timeout: Some(PATIENCE),
    };
    let quiet = || Box::new(std::io::sink());
    match machine.run(
        dir.path(),
        Sinks {
            out: quiet(),
            err: quiet(),
        },
    ) {
        Ok(outcome) => Ok(outcome.ending == Ending::Status(0)),
        Err(error) if error.is::<Interrupted>() => Err(error),
        // QEMU refuses to start what it cannot run.
        Err(_) => Ok(false),
    }
}
