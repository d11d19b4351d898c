//! Runs one virtual machine in QEMU until its init reports a status.
//!
//! The kernel's console, and the command's stdout, stderr and status, each have their own serial port.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::child::{self, Waited};

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg(Tcg),
}

/// Variants of QEMU's emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcg {
    /// QEMU before 10. There cmpxchg16b corrupts flags, and multi-threaded emulation races with the kernel's
    /// text patching. Both cause random oopses in the guest.
    OneThread,
    Threads,
    /// One processor whose clock counts instructions, one nanosecond each.
    Counting,
}

impl Tcg {
    pub fn of_version(major: u32) -> Self {
        if major < 10 {
            Self::OneThread
        } else {
            Self::Threads
        }
    }
}

impl Accel {
    fn args(self, arch: Arch) -> &'static [&'static str] {
        match arch {
            Arch::X86_64 => self.x86_args(),
            Arch::Aarch64 => self.arm64_args(),
        }
    }

    /// Pointer authentication by the architected algorithm would take half of the emulator's time.
    fn arm64_args(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg(Tcg::OneThread | Tcg::Threads) => &[
                "-accel",
                "tcg,thread=multi,tb-size=256",
                "-cpu",
                "max,pauth-impdef=on",
            ],
            Self::Tcg(Tcg::Counting) => &[
                "-accel",
                "tcg,thread=single,tb-size=256",
                "-cpu",
                "max,pauth-impdef=on",
                "-icount",
                "shift=0,sleep=off",
                "-rtc",
                "clock=vm",
            ],
        }
    }

    /// With `rdrand` a guest has random bytes from the start. Without it the first program that asks for some
    /// waits for half a second, while the kernel gathers them from its timer.
    fn x86_args(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg(Tcg::OneThread) => &[
                "-accel",
                "tcg,thread=single,tb-size=256",
                "-cpu",
                "qemu64,+rdrand,-cx16",
            ],
            Self::Tcg(Tcg::Threads) => &[
                "-accel",
                "tcg,thread=multi,tb-size=256",
                "-cpu",
                "qemu64,+rdrand",
            ],
            Self::Tcg(Tcg::Counting) => &[
                "-accel",
                "tcg,thread=single,tb-size=256",
                "-cpu",
                "qemu64,+rdrand,-cx16",
                "-icount",
                "shift=0,sleep=off",
                "-rtc",
                "clock=vm",
            ],
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "with KVM",
            Self::Tcg(Tcg::Counting) => "under emulation, counting instructions",
            Self::Tcg(_) => "under emulation",
        })
    }
}

/// A port of the host's loopback that is forwarded to a port of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    pub host: u16,
    pub guest: u16,
}

pub struct Machine<'a> {
    pub arch: Arch,
    pub accel: Accel,
    pub vmlinux: &'a Path,
    pub initrd: &'a Path,
    pub append: String,
    pub memory_mib: u32,
    pub cpus: u32,
    pub forwards: &'a [Forward],
    /// Further arguments for QEMU.
    pub more: &'a [String],
    /// None: until the guest ends, or the user interrupts.
    pub timeout: Option<Duration>,
}

/// Where the command's output goes while it runs.
pub struct Sinks {
    pub out: Box<dyn Write + Send>,
    pub err: Box<dyn Write + Send>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Init ended the machine and reported the command's status.
    Status(u8),
    /// The machine stopped without a status.
    Died,
    TimedOut,
}

pub struct Outcome {
    pub ending: Ending,
    /// The kernel's console.
    pub console: String,
}

/// The first line of `qemu --version`.
pub fn release() -> Result<String> {
    let text = child::output(child::command(Arch::X86_64.qemu()).arg("--version"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The major version of the installed QEMU.
pub fn version() -> Result<u32> {
    let text = release()?;
    let digits = text
        .split_once("version ")
        .map(|(_, rest)| rest.split('.').next().unwrap_or_default());
    digits
        .and_then(|digits| digits.parse().ok())
        .context("cannot read the version of QEMU")
}

impl Machine<'_> {
    /// Runs the machine to its end. QEMU writes its files to `dir`.
    pub fn run(&self, dir: &Path, sinks: Sinks) -> Result<Outcome> {
        let (console, status) = (dir.join("console"), dir.join("status"));
        let mut qemu = self
            .command(&console, &status)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.arch.qemu()))?;
        let out = child::relay(qemu.stdout.take().context("no stdout")?, sinks.out);
        let err = child::relay(qemu.stderr.take().context("no stderr")?, sinks.err);
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let waited = child::wait_or(&mut qemu, deadline, child::kill)?;
        for relay in [out, err] {
            let _ = relay.join();
        }
        let ending = match waited {
            Waited::TimedOut => Ending::TimedOut,
            Waited::Exited(exit) => ending(exit, &status, self.arch)?,
        };
        let console = fs::read(&console).unwrap_or_default();
        Ok(Outcome {
            ending,
            console: String::from_utf8_lossy(&console).replace('\r', ""),
        })
    }

    fn command(&self, console: &Path, status: &Path) -> Command {
        let file = |id: &str, path: &Path| {
            format!(
                "file,id={id},path={}",
                path.display().to_string().replace(',', ",,")
            )
        };
        let mut qemu = child::command(self.arch.qemu());
        qemu.args([
            "-machine",
            self.arch.machine(),
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(self.accel.args(self.arch))
        .args([
            "-smp",
            &self.cpus.to_string(),
            "-m",
            &format!("{}M", self.memory_mib),
        ])
        .args(["-chardev", &file("console", console)])
        .args(["-chardev", "stdio,id=out,signal=off"])
        .args(["-chardev", "file,id=err,path=/proc/self/fd/2,append=on"])
        .args(["-chardev", &file("status", status)])
        .args(serial_ports(self.arch))
        .arg("-kernel")
        .arg(self.vmlinux)
        .arg("-initrd")
        .arg(self.initrd)
        .args(["-append", &self.append]);
        if !self.forwards.is_empty() {
            let mut user = "user,id=n0,restrict=on,ipv6=off".to_owned();
            for Forward { host, guest } in self.forwards {
                user += &format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
            }
            qemu.args([
                "-netdev",
                &user,
                "-device",
                "virtio-net-pci,netdev=n0,romfile=",
            ]);
        }
        qemu.args(self.more);
        qemu
    }
}

/// The kernel's console on [`Arch::console`], then the command's ports on ttyS1 to ttyS3.
fn serial_ports(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &[
            "-serial",
            "chardev:console",
            "-serial",
            "chardev:out",
            "-serial",
            "chardev:err",
            "-serial",
            "chardev:status",
        ],
        // The board has one port. The card's first port, ttyS0, has no use.
        Arch::Aarch64 => &[
            "-serial",
            "chardev:console",
            "-chardev",
            "null,id=unused",
            "-device",
            "pci-serial-4x,chardev1=unused,chardev2=out,chardev3=err,chardev4=status",
        ],
    }
}

/// Only init writes the status; a kernel that panics resets the machine before.
fn ending(exit: ExitStatus, status: &Path, arch: Arch) -> Result<Ending> {
    match fs::read(status).unwrap_or_default().as_slice() {
        [status] => Ok(Ending::Status(*status)),
        _ if exit.success() => Ok(Ending::Died),
        _ => bail!("{} failed ({exit})", arch.qemu()),
    }
}
