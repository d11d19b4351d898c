//! `cargo xtask vm`: runs a command on a stock kernel.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::build::{self, cross::Cross};
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::Flavour;
use crate::guest::qemu::{Forward, Sinks};
use crate::guest::{Guest, Placed};
use crate::kernel::Choice;
use crate::setup::{self, Purpose};

/// Run a command in a virtual machine with a stock Debian kernel or your own
///
/// The command runs as root in /root, with pinwatch in its PATH. xtask passes on its stdout, stderr and exit
/// status. A warning, an oops or a stall of the kernel fails the run.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask vm --kernel 6.12 -- uname -r
  cargo xtask vm --kernel 7.3 -- pinwatch check --json | jq .
  cargo xtask vm --kernel 6.1 --file ./trial.sh --cpus 1 -- trial.sh
  cargo xtask vm --kernel 6.18 --flavour full --modules rdma_rxe,vfio_pci -- cat /proc/modules
  cargo xtask vm --kernel mine --append cma=512M -- pinwatch load held-one
  cargo xtask vm --kernel 6.12 --forward 8080:80 -- httpd -f -p 80
  cargo xtask vm --kernel 7.3 --count-instructions -- sh -c 'time pinwatch check > /dev/null'
  cargo xtask vm --kernel 6.12 --arch aarch64 --flavour 16k -- pinwatch check")]
pub struct VmArgs {
    /// Series of a stock kernel (5.10, 6.1, 6.12, 6.18, 7.2 or 7.3), or the name of one that
    /// `cargo xtask kernel build` made
    #[arg(long, value_name = "SERIES|NAME")]
    kernel: Choice,
    /// Architecture of the guest; others than x86_64 are emulated
    #[arg(long, value_enum, default_value_t)]
    arch: Arch,
    /// Debian's build of a stock kernel
    #[arg(long, value_enum, default_value_t)]
    flavour: Flavour,
    /// Copy a file or folder of this host into the guest [default place: /root]
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    files: Vec<Placed>,
    /// Load these kernel modules and their dependencies before the command
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    modules: Vec<String>,
    /// Append arguments to the kernel's command line; later ones win
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Memory of the guest; half of it is in ZONE_MOVABLE
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = parse_memory)]
    memory: u32,
    /// Processors of the guest
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Forward a port of this host's loopback to a port of the guest
    #[arg(long = "forward", value_name = "HOSTPORT:GUESTPORT")]
    forwards: Vec<Forward>,
    /// Pass an argument to QEMU (repeatable); for a device: --qemu-arg=-device --qemu-arg=edu
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    qemu_args: Vec<String>,
    /// Stop the guest after this many seconds
    #[arg(long, value_name = "SECS", default_value_t = 600)]
    timeout: u64,
    /// Emulate one processor and let each instruction take 1 ns, so that times can be compared
    #[arg(long, conflicts_with = "cpus")]
    count_instructions: bool,
    /// Do not build pinwatch; the guest has none unless --file adds one
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    mirrors: MirrorArgs,
    /// Command to run and its arguments, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub fn main(args: &VmArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let purpose = if args.no_build {
        Purpose::Guests
    } else {
        Purpose::All
    };
    setup::ensure(&cache, purpose)?;
    setup::ensure_arch(args.arch, purpose)?;
    let mut files = args.files.clone();
    if !args.no_build {
        let host = match args.arch {
            Arch::X86_64 => build::pinwatch()?,
            other => build::pinwatch_on(&Cross::find(other, &cache, &args.mirrors)?)?,
        };
        let guest = "/usr/bin/pinwatch".to_owned();
        files.insert(0, Placed { host, guest });
    }
    let (kernel, own) = args.kernel.open(args.arch, &cache)?;
    let guest = Guest {
        kernel,
        own,
        flavour: args.flavour,
        files,
        modules: args.modules.clone(),
        append: args.append.clone(),
        memory_mib: args.memory,
        cpus: if args.count_instructions {
            1
        } else {
            args.cpus
        },
        forwards: args.forwards.clone(),
        qemu_args: args.qemu_args.clone(),
        timeout: Some(Duration::from_secs(args.timeout)),
        command: args.command.clone(),
    };
    let sinks = Sinks {
        out: Box::new(std::io::stdout()),
        err: Box::new(std::io::stderr()),
    };
    let run = if args.count_instructions {
        Guest::run_counting
    } else {
        Guest::run
    };
    Ok(run(&guest, &cache, &args.mirrors, sinks)?.into())
}

impl FromStr for Placed {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (host, guest) = match text.split_once(':') {
            Some((host, guest)) if guest.starts_with('/') => (host, guest.to_owned()),
            Some(_) => bail!("the path in the guest must begin with /: write HOST:/PATH"),
            None => (text, String::new()),
        };
        let host = PathBuf::from(host);
        if !host.exists() {
            bail!("{} does not exist", host.display());
        }
        if !guest.is_empty() {
            return Ok(Self { host, guest });
        }
        let name = host.canonicalize()?;
        let name = name
            .file_name()
            .and_then(|name| name.to_str())
            .context("the file name is not UTF-8: name a place in the guest")?;
        Ok(Self {
            guest: format!("/root/{name}"),
            host,
        })
    }
}

impl FromStr for Forward {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (host, guest) = text
            .split_once(':')
            .context("a forward is HOSTPORT:GUESTPORT, such as 8080:80")?;
        let port = |text: &str| {
            text.parse()
                .with_context(|| format!("{text} is not a port number (0 to 65535)"))
        };
        Ok(Self {
            host: port(host)?,
            guest: port(guest)?,
        })
    }
}

/// `2G`, `1536M`, as MiB.
fn parse_memory(text: &str) -> Result<u32> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1024),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1),
        _ => bail!("a memory size is a number with G or M, such as 2G or 1536M"),
    };
    let mib: u32 = digits
        .parse()
        .context("a memory size is a number with G or M, such as 2G or 1536M")?;
    match mib.checked_mul(factor) {
        Some(mib @ 256..) => Ok(mib),
        _ => bail!("the guest needs at least 256M"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes() {
        assert_eq!(parse_memory("2G").unwrap(), 2048);
        assert_eq!(parse_memory("1536M").unwrap(), 1536);
        assert!(parse_memory("64M").is_err());
        assert!(parse_memory("2").is_err());
        assert!(parse_memory("99999999G").is_err());
    }

    #[test]
    fn forwards() {
        assert_eq!(
            "8080:80".parse::<Forward>().unwrap(),
            Forward {
                host: 8080,
                guest: 80
            }
        );
        assert!("8080".parse::<Forward>().is_err());
        assert!("8080:70000".parse::<Forward>().is_err());
    }
}
