//! `cargo xtask evaluate`: records the same load on two kernels and runs `pinwatch compare`.
//!
//! Without KVM the guests count instructions instead of time. Figures are then repeatable and compare the
//! work of the kernels, not the speed of a machine.

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
/// Writes the recordings and the comparison (text, JSON, HTML) to a folder. Exit status: 0 if the new kernel
/// is no worse, 1 if it is worse, 2 if the recordings cannot be compared.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask evaluate --base 5.10 --new 6.12
  cargo xtask evaluate --base 6.12 --new 7.3 --repeat 3
  cargo xtask evaluate --base-kernel ../linux/base/vmlinux --new-kernel ../linux/patched/vmlinux

docs/evaluation.md lists the configuration that your own kernel needs.")]
pub struct EvaluateArgs {
    /// Stock kernel to compare with
    #[arg(long, value_name = "SERIES", value_parser = kernels::parse, required_unless_present = "base_kernel")]
    base: Option<&'static Kernel>,
    /// Stock kernel to evaluate
    #[arg(long, value_name = "SERIES", value_parser = kernels::parse, required_unless_present = "new_kernel")]
    new: Option<&'static Kernel>,
    /// Your own kernel instead of --base: a vmlinux or a bzImage
    #[arg(long, value_name = "PATH", conflicts_with = "base")]
    base_kernel: Option<PathBuf>,
    /// Your own kernel instead of --new: a vmlinux or a bzImage
    #[arg(long, value_name = "PATH", conflicts_with = "new")]
    new_kernel: Option<PathBuf>,
    /// Modules of --base-kernel: the folder lib/modules/RELEASE that `make modules_install` makes
    #[arg(long, value_name = "PATH", requires = "base_kernel")]
    base_modules: Option<PathBuf>,
    /// Modules of --new-kernel
    #[arg(long, value_name = "PATH", requires = "new_kernel")]
    new_modules: Option<PathBuf>,
    /// Boots of each kernel; three or more compare boots instead of pins
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    repeat: u32,
    /// Repetitions of the load in each boot
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    load: u32,
    /// Hook the isolation of each page too. Claims C3 and C10 need it; it adds about 700 instructions to
    /// each page that moves
    #[arg(long)]
    isolation: bool,
    /// Folder for the results
    #[arg(long, value_name = "FOLDER", default_value = "target/evaluate")]
    output: PathBuf,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

const TIMEOUT: Duration = Duration::from_secs(1800);
/// Measurements whose hooks run once per page.
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
        // Instruction counts do not depend on other load of the host.
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

/// Records one side in its own boot. Returns the clock that was used.
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
    // Both sides need the same kind of hook, and kprobes miss nothing here.
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
        // 5.10 hangs at boot with two processors that count instructions.
        cpus: 1,
        forwards: Vec::new(),
        qemu_args: Vec::new(),
        timeout: Some(TIMEOUT),
        command: ["sh", "-c", &command].map(str::to_owned).to_vec(),
    };
    let clock = guest.clock(cache, &args.mirrors)?;
    let boot = |sinks| guest.run_by(clock, cache, &args.mirrors, sinks);
    let [out, said] = collect(boot).with_context(|| format!("{name}: the recording failed"))?;
    let text: String = out.split_whitespace().collect();
    let recording = STANDARD
        .decode(text)
        .with_context(|| format!("{name}: the guest printed no recording"))?;
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

/// Compares the recordings: as HTML, as JSON, and on the terminal.
fn compare(args: &EvaluateArgs, pinwatch: &Path, counting: bool) -> Result<ExitCode> {
    let more = |side| {
        let files = (2..=args.repeat).map(|run| file(args, side, run).display().to_string());
        files.collect::<Vec<_>>().join(",")
    };
    let html = args.output.join("comparison.html");
    let compare = || {
        let mut compare = child::command(pinwatch);
        // The functions differ between kernels, and so do the hooks.
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
