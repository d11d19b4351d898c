//! `cargo xtask soak`: random use of a daemon for minutes or hours, in guests.
//!
//! `pinwatch/benches/guest/soak.rs` chooses the steps and checks them in the guest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::bench::document::{self, thousands};
use crate::bench::other_tools::{NEIGHBOURS, OtherTools};
use crate::build;
use crate::cache::Cache;
use crate::child::Interrupted;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, Flavour, Kernel};
use crate::guest::collected::collect_out;
use crate::guest::{Guest, Placed};
use crate::setup::{self, Purpose};

/// Use a daemon at random for some minutes, and check what must always hold
///
/// Boots one guest per kernel, two at a time. In it, loads pin and are killed; tails, scrapes and
/// recordings come and go; the daemon is suspended, killed and restarted; map users, bpftrace, perf
/// and a second pinwatch start and stop. After each step: every pin of the load is seen or counted
/// as lost, no pin is in flight, and the daemon's memory and descriptors have not grown. At the end
/// nothing is left in the kernel.
///
/// Fails at the first step after which something does not hold, and prints the seed that repeats
/// it. The result of at least 15 minutes goes into docs/reliability.md.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask soak
  cargo xtask soak --minutes 60
  cargo xtask soak --minutes 5 --kernel 6.12 --seed 1795675")]
pub struct SoakArgs {
    /// How long each guest runs
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_080))]
    minutes: u32,
    /// Run on this kernel only (repeatable) [default: 6.12 and 7.3]
    #[arg(long = "kernel", value_name = "SERIES", value_parser = kernels::parse)]
    kernels: Vec<&'static Kernel>,
    /// Seed of the choices [default: a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

const KERNELS: [&str; 2] = ["6.12", "7.3"];
const GUESTS: usize = 2;
/// Minutes from which on a result is published.
const PUBLISHED: u32 = 15;
/// Time for the boot, and for the last step.
const MARGIN: Duration = Duration::from_secs(900);
const PROGRAM: &str = "/usr/bin/pinwatch-bench";
/// Programs that start and stop beside pinwatch, by their names in the guest.
const BESIDE: [&str; 5] = ["updates", "lookups", "pinwatch", "bpftrace", "perf"];
const JSON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/soak.json");

pub fn main(args: &SoakArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::Tests)?;
    let [pinwatch, _, program] = build::for_live_tests()?;
    let other_tools = OtherTools::fetch(&NEIGHBOURS, &cache, &args.mirrors)?;
    let mut files = other_tools.placed();
    files.extend(placed(pinwatch, program));
    let kernels = match &args.kernels[..] {
        [] => KERNELS
            .map(|series| kernels::parse(series).expect("a kernel"))
            .to_vec(),
        kernels => kernels.to_vec(),
    };
    let seed = args.seed.unwrap_or_else(new_seed);
    let soak = Soak {
        minutes: args.minutes,
        seed,
        files,
    };
    let mut failed = false;
    for kernels in kernels.chunks(GUESTS) {
        let results: Vec<_> = thread::scope(|scope| {
            let soak = &soak;
            let guests = kernels.iter().map(|kernel| {
                let (cache, mirrors) = (&cache, &args.mirrors);
                scope.spawn(move || soak.run(kernel, cache, mirrors))
            });
            let guests: Vec<_> = guests.collect();
            let joined = guests.into_iter();
            joined
                .map(|guest| guest.join().expect("it does not panic"))
                .collect()
        });
        for (kernel, result) in kernels.iter().zip(results) {
            match result {
                Ok(soaked) => {
                    println!("{HEAD}{}", soaked.row(kernel.series));
                    if is_published(args.minutes) {
                        keep(kernel.series, soaked)?;
                    } else {
                        eprintln!(
                            "xtask: docs/reliability.md stays as it is: it takes runs of {PUBLISHED} minutes and more"
                        );
                    }
                }
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => {
                    failed = true;
                    println!("failed: {} with seed {seed}: {error:#}", kernel.series);
                }
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether a run that held goes into the document. A failed one is an error before that.
fn is_published(minutes: u32) -> bool {
    minutes >= PUBLISHED
}

fn placed(pinwatch: PathBuf, program: PathBuf) -> [Placed; 2] {
    [(pinwatch, "/usr/bin/pinwatch"), (program, PROGRAM)].map(|(host, guest)| Placed {
        host,
        guest: guest.to_owned(),
    })
}

fn new_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

struct Soak {
    minutes: u32,
    seed: u64,
    files: Vec<Placed>,
}

impl Soak {
    fn run(&self, kernel: &'static Kernel, cache: &Cache, mirrors: &MirrorArgs) -> Result<Soaked> {
        let release = kernel.fetch(Flavour::Cloud, cache, mirrors)?.release;
        let (minutes, seed) = (self.minutes.to_string(), self.seed.to_string());
        let mut command = vec![PROGRAM, "soak", "--minutes", &minutes, "--seed", &seed];
        for name in BESIDE {
            command.extend(["--neighbour", name]);
        }
        let guest = Guest {
            files: self.files.clone(),
            timeout: Some(Duration::from_secs(60 * u64::from(self.minutes)) + MARGIN),
            ..Guest::new(kernel, command.into_iter().map(str::to_owned).collect())
        };
        eprintln!("xtask: {release}: {minutes} minutes with seed {seed}");
        let output = collect_out(|sinks| guest.run(cache, mirrors, sinks))?;
        let line = output.lines().last().context("the guest printed nothing")?;
        let soaked: Soaked = serde_json::from_str(line)
            .with_context(|| format!("the guest printed a line that is not its result: {line}"))?;
        Ok(Soaked { release, ..soaked })
    }
}

/// What a guest reports.
#[derive(Deserialize, Serialize)]
struct Soaked {
    #[serde(default)]
    release: String,
    minutes: u32,
    seed: u64,
    steps: BTreeMap<String, i64>,
    made: i64,
    seen: i64,
    lost: i64,
    events: i64,
    events_lost: i64,
    grown_bytes: i64,
}

const HEAD: &str = "\
| Kernel | Minutes | Steps | Daemon killed or stopped | Pins | Seen | Counted as lost | Lines of tails | Lines lost | Growth of memory |
|---|---|---|---|---|---|---|---|---|---|
";

impl Soaked {
    fn row(&self, series: &str) -> String {
        let steps: i64 = self.steps.values().sum();
        let of = |name: &str| self.steps.get(name).copied().unwrap_or_default();
        let restarts = of("daemon killed") + of("daemon stopped");
        let counts = [
            steps,
            restarts,
            self.made,
            self.seen,
            self.lost,
            self.events,
            self.events_lost,
        ];
        let mut row = format!("| {series}: {} | {} ", self.release, self.minutes);
        for count in counts {
            let _ = write!(row, "| {} ", thousands(count));
        }
        let _ = writeln!(row, "| {} KiB |", thousands(self.grown_bytes / 1024));
        row
    }
}

/// Replaces a kernel's row in docs/reliability.md.
fn keep(series: &str, soaked: Soaked) -> Result<()> {
    let mut all: BTreeMap<String, Soaked> = match fs::read_to_string(JSON) {
        Ok(text) => serde_json::from_str(&text).context("docs/soak.json")?,
        Err(_) => BTreeMap::new(),
    };
    all.insert(series.to_owned(), soaked);
    fs::write(JSON, serde_json::to_string_pretty(&all)? + "\n").context(JSON)?;
    let rows: String = all
        .iter()
        .map(|(series, soaked)| soaked.row(series))
        .collect();
    document::write_in("reliability.md", "soak", &format!("{HEAD}{rows}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_runs_are_not_published() {
        assert!(!is_published(2));
        assert!(!is_published(14));
        assert!(is_published(60));
    }
}
