//! Runs one command on a stock kernel: fetches the kernel, writes the initrd, boots, and checks the kernel's
//! log and the command's status.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{Fetched, Flavour, Kernel};
use crate::debian::programs;
use crate::guest::accel;
use crate::guest::initrd::Initrd;
use crate::guest::modules::Modules;
use crate::guest::qemu::{Accel, Ending, Forward, Machine, Outcome, Sinks, Tcg};
use crate::guest::splat;

/// Boots fast under emulation, logs warnings and errors to the console, and stops at an oops.
const KERNEL_ARGS: &str = "panic=-1 oops=panic loglevel=5 no_timer_check mitigations=off \
     nokaslr audit=0 apparmor=0 cryptomgr.notests random.trust_cpu=on";

/// Drivers of the guest's network card; some kernels have one of them built in.
const NETWORK_MODULES: &[&str] = &["virtio_pci", "virtio_net"];

/// Lines of the console to show when a guest dies.
const TAIL: usize = 40;

/// A file or folder of the host and its place in the guest.
#[derive(Clone, Debug)]
pub struct Placed {
    pub host: PathBuf,
    pub guest: String,
}

pub struct Guest {
    pub kernel: &'static Kernel,
    /// The user's own kernel instead.
    pub own: Option<Fetched>,
    pub flavour: Flavour,
    pub files: Vec<Placed>,
    pub modules: Vec<String>,
    pub append: Vec<String>,
    pub memory_mib: u32,
    pub cpus: u32,
    pub forwards: Vec<Forward>,
    pub qemu_args: Vec<String>,
    pub timeout: Option<Duration>,
    pub command: Vec<String>,
}

/// What a guest's clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Clock {
    /// Time of the host
    Time,
    /// Instructions of the guest, one nanosecond each. The guest is emulated
    Instructions,
}

impl Guest {
    /// A guest of two processors and 2 GiB with a stock kernel of the cloud flavour.
    pub fn new(kernel: &'static Kernel, command: Vec<String>) -> Self {
        Self {
            kernel,
            own: None,
            flavour: Flavour::Cloud,
            files: Vec::new(),
            modules: Vec::new(),
            append: Vec::new(),
            memory_mib: 2048,
            cpus: 2,
            forwards: Vec::new(),
            qemu_args: Vec::new(),
            timeout: None,
            command,
        }
    }

    /// Boots, runs the command and returns its status. Fails if the guest does not run to its end, or if its
    /// kernel logs a warning or worse.
    pub fn run(&self, cache: &Cache, mirrors: &MirrorArgs, sinks: Sinks) -> Result<u8> {
        self.boot(cache, mirrors, sinks, None)
    }

    /// The same on emulated processors whose clock counts instructions.
    pub fn run_counting(&self, cache: &Cache, mirrors: &MirrorArgs, sinks: Sinks) -> Result<u8> {
        self.boot(cache, mirrors, sinks, Some(Accel::Tcg(Tcg::Counting)))
    }

    /// The accelerator whose clock counts `requested`. Without a request it is the most precise one: KVM if it
    /// works here, else an emulator that counts instructions.
    pub fn clocked(
        &self,
        requested: Option<Clock>,
        cache: &Cache,
        mirrors: &MirrorArgs,
    ) -> Result<Accel> {
        let kernel = self.fetch(cache, mirrors)?;
        let busybox = programs::busybox(self.kernel.arch)
            .fetch(cache, mirrors)?
            .join("busybox");
        let fastest = accel::choose(cache, &kernel, self.kernel.arch, &busybox)?;
        Ok(match (requested, fastest) {
            (Some(Clock::Time), fastest) => fastest,
            (None, Accel::Kvm) => Accel::Kvm,
            (Some(Clock::Instructions), _) | (None, Accel::Tcg(_)) => Accel::Tcg(Tcg::Counting),
        })
    }

    /// The same with a given accelerator.
    pub fn run_by(
        &self,
        accel: Accel,
        cache: &Cache,
        mirrors: &MirrorArgs,
        sinks: Sinks,
    ) -> Result<u8> {
        self.boot(cache, mirrors, sinks, Some(accel))
    }

    fn fetch(&self, cache: &Cache, mirrors: &MirrorArgs) -> Result<Fetched> {
        match &self.own {
            Some(own) => Ok(own.clone()),
            None => self.kernel.fetch(self.flavour, cache, mirrors),
        }
    }

    fn boot(
        &self,
        cache: &Cache,
        mirrors: &MirrorArgs,
        sinks: Sinks,
        accel: Option<Accel>,
    ) -> Result<u8> {
        for forward in &self.forwards {
            check_port(forward.host)?;
        }
        let kernel = self.fetch(cache, mirrors)?;
        let busybox = programs::busybox(self.kernel.arch)
            .fetch(cache, mirrors)?
            .join("busybox");
        let dir = TempDir::with_prefix("pinwatch-vm-")?;
        let initrd = dir.path().join("initrd");
        self.write_initrd(&initrd, &kernel, &busybox)?;
        let accel = match accel {
            Some(accel) => accel,
            None => accel::choose(cache, &kernel, self.kernel.arch, &busybox)?,
        };
        eprintln!("xtask: booting {} {accel}", kernel.release);
        let outcome = self
            .machine(accel, &kernel.vmlinux(), &initrd)
            .run(dir.path(), sinks)?;
        self.judge(&outcome)
    }

    fn machine<'a>(&'a self, accel: Accel, vmlinux: &'a Path, initrd: &'a Path) -> Machine<'a> {
        let arch = self.kernel.arch;
        let mut append = format!(
            "console={} {KERNEL_ARGS} movablecore={}M",
            arch.console(),
            self.memory_mib / 2
        );
        for more in &self.append {
            append = append + " " + more;
        }
        Machine {
            arch,
            accel,
            vmlinux,
            initrd,
            append,
            memory_mib: self.memory_mib,
            cpus: self.cpus,
            forwards: &self.forwards,
            more: &self.qemu_args,
            timeout: self.timeout,
        }
    }

    fn write_initrd(&self, path: &Path, kernel: &Fetched, busybox: &Path) -> Result<()> {
        let mut initrd = Initrd::create(path)?;
        for folder in [
            "proc",
            "sys",
            "run",
            "tmp",
            "root",
            "mnt",
            "var/log",
            "usr/local/bin",
        ] {
            initrd.folder(folder)?;
        }
        initrd.file("init", 0o755, include_bytes!("init.sh"))?;
        initrd.copy(busybox, "bin/busybox")?;
        initrd.file(
            "etc/passwd",
            0o644,
            b"root::0:0:root:/root:/bin/sh\nnobody::65534:65534:nobody:/:/bin/sh\n",
        )?;
        initrd.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
        initrd.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n")?;
        // Debian's place for it; pinwatch and bpftrace read it.
        initrd.copy(&kernel.config(), &format!("boot/config-{}", kernel.release))?;

        let mut wanted: Vec<&str> = self.modules.iter().map(String::as_str).collect();
        if !self.forwards.is_empty() {
            wanted.extend(NETWORK_MODULES);
        }
        let mut names = String::new();
        if !wanted.is_empty() && self.own.is_none() && !kernel.has_modules() {
            eprintln!(
                "xtask: kernel {} has no modules: its guest loads none",
                kernel.release
            );
        } else if !wanted.is_empty() {
            for module in Modules::open(&kernel.modules())?.resolve(&wanted)? {
                initrd.file(
                    &format!("etc/xtask/{}.ko", module.name),
                    0o644,
                    &module.data,
                )?;
                names = names + &module.name + "\n";
            }
        }
        initrd.file("etc/xtask/modules", 0o644, names.as_bytes())?;
        initrd.file(
            "etc/xtask/command",
            0o644,
            format!("exec {}\n", quote(&self.command)).as_bytes(),
        )?;
        for file in &self.files {
            initrd.copy(&file.host, &file.guest)?;
        }
        initrd.finish()
    }

    fn judge(&self, outcome: &Outcome) -> Result<u8> {
        judge(self.kernel.series, self.timeout, outcome)
    }
}

/// The status of the command. Whatever it is, a report of a broken kernel is an error.
fn judge(series: &str, timeout: Option<Duration>, outcome: &Outcome) -> Result<u8> {
    let reports = splat::find(&outcome.console, series);
    for known in reports.known {
        eprintln!(
            "xtask: kernel {series} logged a known warning: {}",
            known.reason
        );
    }
    if !reports.unknown.is_empty() {
        bail!(
            "kernel {series} logged a warning or worse:\n{}",
            reports.unknown.join("\n")
        );
    }
    match outcome.ending {
        Ending::Status(status) => Ok(status),
        Ending::Died => bail!(
            "the guest with kernel {series} died; the end of its console:\n{}",
            tail(&outcome.console)
        ),
        Ending::TimedOut => bail!(
            "the guest with kernel {series} did not end within {} s (--timeout); the end of its console:\n{}",
            timeout.unwrap_or_default().as_secs(),
            tail(&outcome.console)
        ),
    }
}

/// Fails if a port is taken. QEMU would fail too, but only after everything else is done.
pub fn check_port(port: u16) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) => bail!("port {port} of this host cannot be used ({error}): choose another"),
    }
}

/// Quotes words for the guest's shell.
pub fn quote(words: &[String]) -> String {
    let quoted: Vec<_> = words
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect();
    quoted.join(" ")
}

fn tail(console: &str) -> String {
    let lines: Vec<_> = console.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_fails_a_run_whose_command_succeeded() {
        let judged = |console: &str| {
            let outcome = Outcome {
                ending: Ending::Status(0),
                console: console.to_owned(),
            };
            judge("6.12", None, &outcome).map_err(|error| error.to_string())
        };
        assert_eq!(judged("[    1.000000] virtio_net: ready\n"), Ok(0));
        let warning = "[    9.000000] WARNING: CPU: 1 PID: 108 at mm/gup.c:29 pin+0x4/0x7";
        let error = judged(warning).expect_err("the kernel is broken");
        assert!(error.contains("a warning or worse"), "{error}");
        assert!(error.contains(warning), "{error}");
    }

    #[test]
    fn words_survive_the_shell() {
        let words = ["sh", "-c", "echo 'a  b' $HOME"].map(str::to_owned);
        assert_eq!(quote(&words), r"'sh' '-c' 'echo '\''a  b'\'' $HOME'");
    }
}
