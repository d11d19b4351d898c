//! `cargo xtask run`: runs pinwatch while `run/load.sh` makes pins.
//!
//! Watches this host if possible, else a stock kernel in a virtual machine. The metrics are served on this
//! host's loopback in both cases.

pub mod http;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::build;
use crate::cache::Cache;
use crate::child::{self, Interrupted};
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, Flavour, Kernel};
use crate::guest::qemu::{Forward, Sinks};
use crate::guest::{self, Guest, Placed};

use crate::setup::{self, Purpose};

/// Build pinwatch and watch real pins: on this host, or on a stock kernel in a VM
///
/// Runs until Ctrl-C.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask run
  cargo xtask run --kernel 7.3 --port 9000
  curl -s http://127.0.0.1:10746/metrics | grep ^pinwatch_pins")]
pub struct RunArgs {
    /// Kernel of the VM, if this host cannot be watched
    #[arg(long, default_value = "6.12", value_parser = kernels::parse)]
    kernel: &'static Kernel,
    /// Port on this host's loopback that serves the metrics
    #[arg(long, default_value_t = PORT)]
    port: u16,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

/// pinwatch's own port.
const PORT: u16 = 10746;
pub const LOAD: &str = include_str!("run/load.sh");
/// A guest under emulation boots and attaches in a tenth of this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// The metrics to show.
const SHOWN: &[&str] = &[
    "pinwatch_pins_total",
    "pinwatch_pin_failures_total",
    "pinwatch_migrate_pages_total",
    "pinwatch_pin_passes_sum",
    "pinwatch_kernel_info",
];

pub fn main(args: &RunArgs) -> Result<ExitCode> {
    let RunArgs { kernel, port, .. } = *args;
    if let Err(taken) = guest::check_port(port) {
        bail!("{taken}; choose another with --port");
    }
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let pinwatch = build::pinwatch()?;
    let watcher = match why_not_here(&pinwatch, port)? {
        None => {
            eprintln!("xtask: watching this host");
            thread::spawn(move || watch_host(&pinwatch, port))
        }
        Some(reason) => {
            let series = kernel.series;
            eprintln!(
                "xtask: this host cannot be watched ({reason}); watching kernel {series} in a VM"
            );
            let mirrors = args.mirrors.clone();
            thread::spawn(move || watch_guest(kernel, &cache, &mirrors, pinwatch, port))
        }
    };
    let shown = show(port, &watcher);
    if shown.is_err() {
        child::interrupt();
    }
    let ended = watcher.join().expect("the watcher does not panic");
    match shown.and(ended) {
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("xtask: stopped");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error),
        Ok(()) => bail!("pinwatch ended unexpectedly: its last messages are above"),
    }
}

fn watch_host(pinwatch: &Path, port: u16) -> Result<()> {
    let dir = TempDir::with_prefix("pinwatch-run-")?;
    let script = dir.path().join("load.sh");
    fs::write(&script, LOAD)?;
    let mut load = child::command("sh");
    load.arg(script)
        .arg(pinwatch)
        .arg(format!("127.0.0.1:{port}"));
    child::run(&mut load)
}

fn watch_guest(
    kernel: &'static Kernel,
    cache: &Cache,
    mirrors: &MirrorArgs,
    pinwatch: PathBuf,
    port: u16,
) -> Result<()> {
    let dir = TempDir::with_prefix("pinwatch-run-")?;
    let script = dir.path().join("load.sh");
    fs::write(&script, LOAD)?;
    let placed = |host, guest: &str| Placed {
        host,
        guest: guest.to_owned(),
    };
    let guest = Guest {
        kernel,
        own: None,
        flavour: Flavour::Cloud,
        files: vec![
            placed(pinwatch, "/usr/bin/pinwatch"),
            placed(script, "/root/load.sh"),
        ],
        modules: Vec::new(),
        append: Vec::new(),
        memory_mib: 2048,
        cpus: 2,
        forwards: vec![Forward {
            host: port,
            guest: PORT,
        }],
        qemu_args: Vec::new(),
        timeout: None,
        command: ["sh", "load.sh", "pinwatch", &format!("0.0.0.0:{PORT}")]
            .map(str::to_owned)
            .into(),
    };
    let sinks = Sinks {
        out: Box::new(io::stderr()),
        err: Box::new(io::stderr()),
    };
    match guest.run(cache, mirrors, sinks)? {
        0 => Ok(()),
        status => bail!("pinwatch in the guest failed with status {status}"),
    }
}

/// Waits until pinwatch has counted pins, then prints where to look.
fn show(port: u16, watcher: &JoinHandle<Result<()>>) -> Result<()> {
    let metrics = child::wait_for("pinwatch to count pins", PATIENCE, || {
        if watcher.is_finished() {
            return Ok(Some(None));
        }
        let metrics = http::get(port, "/readyz").and_then(|_| http::get(port, "/metrics"));
        let counted = |metrics: &String| {
            let mut lines = excerpt(metrics).into_iter();
            lines.any(|line| line.starts_with("pinwatch_pins_total"))
        };
        Ok(metrics.ok().filter(counted).map(Some))
    })?;
    // The watcher has the reason if it has ended.
    let Some(metrics) = metrics else {
        return Ok(());
    };
    println!("\npinwatch is running, and the load is making pins:\n");
    for line in excerpt(&metrics) {
        println!("    {line}");
    }
    println!(
        "\nAll metrics:    curl http://127.0.0.1:{port}/metrics
Page:           http://127.0.0.1:{port}/
Follow:         watch \"curl -s http://127.0.0.1:{port}/metrics | grep -E '^pinwatch_(pins|migrate)'\"

Ctrl-C ends it."
    );
    Ok(())
}

/// The lines of [`SHOWN`] metrics that are not zero.
fn excerpt(metrics: &str) -> Vec<&str> {
    let shown =
        |line: &&str| SHOWN.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0");
    metrics.lines().filter(shown).collect()
}

/// The reason why pinwatch cannot watch this host, if any. `pinwatch check` attaches nothing, so pinwatch is
/// started too.
fn why_not_here(pinwatch: &Path, port: u16) -> Result<Option<String>> {
    if !geteuid().is_root() {
        return Ok(Some("you are not root".to_owned()));
    }
    let check = child::command(pinwatch)
        .arg("check")
        .output()
        .context("cannot start pinwatch")?;
    if !matches!(check.status.code(), Some(0 | 1)) {
        let said = [check.stdout, check.stderr].concat();
        return Ok(Some(
            verdict(&said).unwrap_or_else(|| format!("its check failed, {}", check.status)),
        ));
    }
    let mut trial = child::command(pinwatch)
        .args(["run", "--web.listen-address", &format!("127.0.0.1:{port}")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start pinwatch")?;
    let ended = child::wait_for("pinwatch to be ready", PATIENCE, || {
        if http::get(port, "/readyz").is_ok() {
            return Ok(Some(None));
        }
        Ok(trial.try_wait()?.map(Some))
    });
    let status = match ended {
        Ok(Some(status)) => status,
        Ok(None) => {
            child::end(&mut trial)?;
            return Ok(None);
        }
        Err(error) => {
            child::end(&mut trial)?;
            child::check_interrupted()?;
            return Ok(Some(error.to_string()));
        }
    };
    let mut said = Vec::new();
    let mut stderr = trial.stderr.take().context("pinwatch has no stderr")?;
    stderr.read_to_end(&mut said)?;
    Ok(Some(
        verdict(&said).unwrap_or_else(|| format!("it ends, {status}")),
    ))
}

/// The line of pinwatch's output that states why it cannot run.
fn verdict(said: &[u8]) -> Option<String> {
    let said = String::from_utf8_lossy(said);
    let mut lines = said.lines().filter(|line| !line.trim().is_empty());
    let marked = lines.clone().find_map(|line| {
        ["unusable: ", "pinwatch: "]
            .iter()
            .find_map(|mark| line.strip_prefix(mark))
    });
    marked
        .or_else(|| lines.next_back())
        .map(|line| line.trim().to_owned())
}
