//! `cargo xtask test --dashboards`: Prometheus scrapes pinwatch on a guest of each architecture, and runs every query
//! of the dashboards.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::steps::Steps;
use crate::arch::Arch;
use crate::build::{self, cross::Cross};
use crate::cache::Cache;
use crate::child;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, Flavour, Kernel};
use crate::guest::qemu::{Forward, Sinks};
use crate::guest::{Guest, Placed};
use crate::run::{LOAD, http};
use crate::setup::{self, Purpose};

/// Architecture and kernel of each guest. Every measurement is attached there: a lost one has no sample.
const HOSTS: [(Arch, &str); 2] = [(Arch::X86_64, "6.12"), (Arch::Aarch64, "6.12")];
/// Ports of a guest: that of the metrics, and one that ends the guest when something connects to it.
const PORTS: [u16; 2] = [10746, 81];
const TIMEOUT: Duration = Duration::from_secs(600);
/// An emulated guest boots and attaches in a tenth of this time.
const PATIENCE: Duration = Duration::from_secs(240);

/// A guest that watches pins.
struct Host {
    kernel: &'static Kernel,
    release: String,
    pinwatch: PathBuf,
    forwards: [Forward; 2],
}

/// Boots the guests and runs the queries. Prometheus is in `path`.
pub fn run(cache: &Cache, mirrors: &MirrorArgs, path: &OsStr, steps: &Steps<'_>) -> Result<()> {
    let built = steps.run("building for both hosts", || {
        setup::ensure_arch(Arch::Aarch64, Purpose::Tests)?;
        let [x86_64, ..] = build::for_live_tests()?;
        let [aarch64, _] = build::for_live_tests_on(&Cross::find(Arch::Aarch64, cache, mirrors)?)?;
        child::run(queries().arg("--no-run"))?;
        Ok([x86_64, aarch64])
    })?;
    let Some(programs) = built else { return Ok(()) };
    let hosts = steps.run("fetching kernels", || hosts(programs, cache, mirrors))?;
    let Some(hosts) = hosts else { return Ok(()) };
    thread::scope(|scope| {
        let guests: Vec<_> = hosts
            .iter()
            .map(|host| scope.spawn(|| host.watch(cache, mirrors)))
            .collect();
        let done = steps.check("queries of the dashboards", || {
            for host in &hosts {
                child::wait_for("a guest to count pins", PATIENCE, || {
                    if guests.iter().any(|guest| guest.is_finished()) {
                        bail!("a guest ended early");
                    }
                    Ok(host.counts_pins().then_some(()))
                })?;
            }
            let list: Vec<_> = hosts.iter().map(Host::for_the_test).collect();
            child::run(
                queries()
                    .env("PATH", path)
                    .env("PINWATCH_HOSTS", list.join(","))
                    .args(["--", "--ignored", "--nocapture"]),
            )
        });
        for (host, guest) in hosts.iter().zip(guests) {
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, host.forwards[1].host));
            let ended = guest.join().expect("the guest does not panic");
            steps.run(&format!("the guest with {}", host.release), || ended)?;
        }
        done
    })
}

/// The test program that runs them.
fn queries() -> Command {
    let mut cargo = build::tests();
    cargo.args(["--test", "dashboards"]);
    cargo
}

fn hosts(programs: [PathBuf; 2], cache: &Cache, mirrors: &MirrorArgs) -> Result<Vec<Host>> {
    let host = |((arch, series), pinwatch): ((Arch, &str), PathBuf)| {
        let kernel = kernels::parse(series)?.on(arch)?;
        let release = kernel.fetch(Flavour::Cloud, cache, mirrors)?.release;
        let mut forwards = PORTS.map(|guest| Forward { host: 0, guest });
        for forward in &mut forwards {
            forward.host = free_port()?;
        }
        Ok(Host {
            kernel,
            release,
            pinwatch,
            forwards,
        })
    };
    HOSTS.into_iter().zip(programs).map(host).collect()
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

impl Host {
    /// Watches pins of all kinds until something connects to the second port.
    fn watch(&self, cache: &Cache, mirrors: &MirrorArgs) -> Result<()> {
        let dir = TempDir::with_prefix("pinwatch-hosts-")?;
        let load = dir.path().join("load.sh");
        fs::write(&load, LOAD)?;
        let [metrics, end] = PORTS;
        let script = format!(
            "echo 1 >/proc/sys/kernel/bpf_stats_enabled\n\
             export PINWATCH_WITH=fast_path,isolate_lru,refusals,weak_pins\n\
             sh load.sh pinwatch 0.0.0.0:{metrics} & load=$!\n\
             nc -l -p {end} </dev/null\n\
             kill $load; wait $load"
        );
        let placed = |host, guest: &str| Placed {
            host,
            guest: guest.to_owned(),
        };
        let guest = Guest {
            files: vec![
                placed(self.pinwatch.clone(), "/usr/bin/pinwatch"),
                placed(load, "/root/load.sh"),
            ],
            forwards: self.forwards.to_vec(),
            timeout: Some(TIMEOUT),
            ..Guest::new(self.kernel, ["sh", "-c", &script].map(str::to_owned).into())
        };
        let sinks = Sinks {
            out: Box::new(io::stderr()),
            err: Box::new(io::stderr()),
        };
        match guest.run(cache, mirrors, sinks)? {
            0 => Ok(()),
            status => bail!("pinwatch failed with status {status}"),
        }
    }

    fn counts_pins(&self) -> bool {
        let metrics = http::get(self.forwards[0].host, "/metrics");
        metrics.is_ok_and(|text| {
            text.lines()
                .any(|line| line.starts_with("pinwatch_pins_total{") && !line.ends_with(" 0"))
        })
    }

    fn for_the_test(&self) -> String {
        format!("127.0.0.1:{}={}", self.forwards[0].host, self.release)
    }
}
