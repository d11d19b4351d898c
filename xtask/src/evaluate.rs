//! `cargo xtask evaluate`: two kernels, the same load, and what `pinwatch compare` says.
//!
//! Where there is no KVM the guests count instructions instead of time: figures then repeat, and
//! compare what the kernels do, not how fast a machine does it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::build;
use crate::cache::Cache;
use crate::child::{self, Waited};
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, Fetched, Flavour, Kernel, OWN};
use crate::guest::collected::collect;
use crate::guest::qemu::{Accel, Tcg};
use crate::guest::{Guest, Placed};
use crate::setup::{self, Purpose};

/// Boot two kernels, record the same load on both, and compare
///
/// Writes the recordings, the comparison as text, JSON and HTML into a folder. Exit status: 0 the
/// new kernel is no worse, 1 it is worse, 2 the recordings cannot be compared.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask evaluate --base 5.10 --new 6.12
  cargo xtask evaluate --base 6.12 --new 7.3 --repeat 3
  cargo xtask evaluate --base-kernel ../linux/base/vmlinux --new-kernel ../linux/patched/vmlinux

A kernel of your own needs what docs/evaluation.md lists; --base-modules takes its modules' folder.")]
pub struct EvaluateArgs {
    /// The stock kernel that is known
    #[arg(long, value_name = "SERIES", value_parser = kernels::parse, required_unless_present = "base_kernel")]
    base: Option<&'static Kernel>,
    /// The stock kernel in question
    #[arg(long, value_name = "SERIES", value_parser = kernels::parse, required_unless_present = "new_kernel")]
    new: Option<&'static Kernel>,
    /// A kernel of your own in place of --base: a vmlinux or a bzImage
    #[arg(long, value_name = "PATH", conflicts_with = "base")]
    base_kernel: Option<PathBuf>,
    /// A kernel of your own in place of --new
    #[arg(long, value_name = "PATH", conflicts_with = "new")]
    new_kernel: Option<PathBuf>,
    /// Its modules, as `make modules_install` makes lib/modules/RELEASE
    #[arg(long, value_name = "PATH", requires = "base_kernel")]
    base_modules: Option<PathBuf>,
    /// Its modules
    #[arg(long, value_name = "PATH", requires = "new_kernel")]
    new_modules: Option<PathBuf>,
    /// Boots of each kernel; with three or more, boots are compared instead of pins
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    repeat: u32,
    /// How often the load is made in each boot
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    load: u32,
    /// Hook the isolation of each page too: claims C3 and C10 need it, and it adds some 700
    /// instructions to each page that moves
    #[arg(long)]
    isolation: bool,
    /// Where the results go
    #[arg(long, value_name = "FOLDER", default_value = "target/evaluate")]
    output: PathBuf,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

const TIMEOUT: Duration = Duration::from_secs(1800);
/// Measurements that hook what is called for each page.
const ISOLATION: [&str; 3] = ["isolate_lru", "isolate_hugetlb", "isolate_movable"];
const PINWATCH: &str = "/usr/bin/pinwatch";

/// One of the two kernels.
struct Side {
    name: &'static str,
    kernel: &'static Kernel,
    own: Option<Fetched>,
}

pub fn main(args: &EvaluateArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let scratch = cache.scratch()?;
    let side = |name,
                stock: Option<&'static Kernel>,
                own: &Option<PathBuf>,
                modules: &Option<PathBuf>|
     -> Result<Side> {
        let own = match own {
            Some(image) => Some(Fetched::own(
                image,
                modules.as_deref(),
                &scratch.path().join(name),
            )?),
            None => None,
        };
        Ok(Side {
            name,
            kernel: stock.unwrap_or(&OWN),
            own,
        })
    };
    let sides = [
        side("base", args.base, &args.base_kernel, &args.base_modules)?,
        side("new", args.new, &args.new_kernel, &args.new_modules)?,
    ];
    let pinwatch = build::pinwatch()?;
    fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let mut counting = true;
    for run in 1..=args.repeat {
        let record = |side: &Side| record(args, &cache, side, &pinwatch, run);
        // What a guest that counts instructions measures does not depend on what runs beside it.
        thread::scope(|scope| {
            let workers: Vec<_> = sides
                .iter()
                .map(|side| scope.spawn(|| record(side)))
                .collect();
            workers.into_iter().try_for_each(|worker| {
                let clock = worker.join().expect("a worker does not panic")?;
                counting &= clock == Accel::Tcg(Tcg::Counting);
                anyhow::Ok(())
            })
        })?;
    }
    compare(args, &pinwatch, counting)
}

fn file(args: &EvaluateArgs, side: &str, run: u32) -> PathBuf {
    args.output.join(format!("{side}-{run}.pw"))
}

/// Records one side in a boot of its own; by which clock.
fn record(
    args: &EvaluateArgs,
    cache: &Cache,
    side: &Side,
    pinwatch: &Path,
    run: u32,
) -> Result<Accel> {
    let name = side.name;
    eprintln!(
        "xtask: {name}: run {run} of {}, a minute or two",
        args.repeat
    );
    let started = Instant::now();
    let without = match args.isolation {
        true => String::new(),
        false => ISOLATION.map(|each| format!("--without {each}")).join(" "),
    };
    // The same kind of hook on both sides, and one that misses nothing.
    let command = format!(
        "{PINWATCH} record --compress --attach kprobe {without} -o /tmp/recording -- {PINWATCH} load --evaluation --repeat {} \
         >/dev/null && base64 /tmp/recording",
        args.load
    );
    let guest = Guest {
        kernel: side.kernel,
        own: side.own.clone(),
        flavour: Flavour::Cloud,
        files: vec![Placed {
            host: pinwatch.to_owned(),
            guest: PINWATCH.to_owned(),
        }],
        modules: Vec::new(),
        append: vec!["norandmaps".to_owned()],
        memory_mib: 2048,
        // 5.10 hangs at boot with two whose clock counts instructions.
        cpus: 1,
        forwards: Vec::new(),
        qemu_args: Vec::new(),
        timeout: Some(TIMEOUT),
        command: ["sh", "-c", &command].map(str::to_owned).to_vec(),
    };
    let clock = guest.clock(cache, &args.mirrors)?;
    let boot = |sinks| guest.run_by(clock, cache, &args.mirrors, sinks);
    let [out, said] = collect(boot).with_context(|| format!("{name}: the recording"))?;
    let text: String = out.split_whitespace().collect();
    let recording = STANDARD
        .decode(text)
        .with_context(|| format!("{name}: no recording came out"))?;
    let path = file(args, name, run);
    fs::write(&path, recording).with_context(|| path.display().to_string())?;
    let pins = said
        .lines()
        .last()
        .unwrap_or_default()
        .rsplit(['\r', '\n'])
        .next()
        .unwrap_or_default();
    eprintln!(
        "xtask: {name}: run {run} took {} s: {}",
        started.elapsed().as_secs(),
        pins.trim_start_matches("\x1b[K")
    );
    Ok(clock)
}

/// Compares what was recorded, for people, for scripts, and on the terminal.
fn compare(args: &EvaluateArgs, pinwatch: &Path, counting: bool) -> Result<ExitCode> {
    let more = |side| {
        let files = (2..=args.repeat).map(|run| file(args, side, run).display().to_string());
        files.collect::<Vec<_>>().join(",")
    };
    let html = args.output.join("comparison.html");
    let compare = || {
        let mut compare = child::command(pinwatch);
        // Hooks sit where each kernel has its functions.
        compare.args(["compare", "--allow", "hooks"]);
        if counting {
            compare.args(["--run-spread", "0"]);
        }
        for (flag, side) in [("--more-base", "base"), ("--more-new", "new")] {
            if args.repeat > 1 {
                compare.args([flag, &more(side)]);
            }
        }
        compare.args([file(args, "base", 1), file(args, "new", 1)]);
        compare
    };
    let json = compare().arg("--json").arg("--html").arg(&html).output();
    let json = json.with_context(|| format!("cannot run {}", pinwatch.display()))?;
    fs::write(args.output.join("comparison.json"), &json.stdout)?;
    let mut shown = compare().spawn().context("cannot run pinwatch")?;
    let Waited::Exited(status) = child::wait(&mut shown, None)? else {
        bail!("pinwatch compare did not end");
    };
    eprintln!(
        "xtask: recordings, comparison.json and comparison.html are in {}",
        args.output.display()
    );
    Ok(ExitCode::from(status.code().unwrap_or(2) as u8))
}
