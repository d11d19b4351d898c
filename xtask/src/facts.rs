//! `cargo xtask facts`: writes the fact sheets of kernels, which the planner's tests use.
//!
//! A sheet is the output of `pinwatch check --facts` in a guest, byte for byte. Never edit one by hand.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::arch::Arch;
use crate::build::{self, cross::Cross};
use crate::cache::Cache;
use crate::child::Interrupted;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{ARM64_KERNELS, BETWEEN, Fetched, Flavour, KERNELS, Kernel};
use crate::guest::collected::collect;
use crate::guest::{Guest, Placed};
use crate::kernel::Choice;
use crate::setup::{self, Purpose};

/// Write the fact sheets of the stock kernels for the planner's tests
///
/// Boots each kernel in a virtual machine and writes the output of `pinwatch check --facts` to
/// pinwatch/tests/data/facts. Sheets of kernels between the series, and of the lab's, are in facts-other. Run it after changing which facts pinwatch gathers.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask facts
  cargo xtask facts --kernel 6.12 --flavour full
  cargo xtask facts --kernel 7.1 --kernel lab-rt --flavour cloud
  cargo xtask facts --arch aarch64
  cargo xtask facts --check")]
pub struct FactsArgs {
    /// Write the sheet of this kernel only: a stock one, or one that `cargo xtask kernel build` made (repeatable) [default: those
    /// of the series]
    #[arg(long = "kernel", value_name = "SERIES|NAME")]
    kernels: Vec<Choice>,
    /// Architecture of the kernels
    #[arg(long, value_enum, default_value_t)]
    arch: Arch,
    /// Write the sheet of this flavour only [default: cloud and full; on aarch64 cloud]
    #[arg(long = "flavour", value_enum)]
    flavours: Vec<Flavour>,
    /// Write nothing; fail if a sheet differs from its kernel, and print the differences
    #[arg(long)]
    check: bool,
    /// Guests at a time; under emulation each keeps one processor busy
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    jobs: u8,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

const SHEETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../pinwatch/tests/data/facts");

/// The folder with the sheets of the series for an architecture.
fn folder(arch: Arch) -> PathBuf {
    format!("{SHEETS}{}", arch.suffix()).into()
}

/// The folder with the sheets of all other kernels.
fn other_folder() -> PathBuf {
    format!("{SHEETS}-other").into()
}

const TIMEOUT: Duration = Duration::from_secs(300);

pub fn main(args: &FactsArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    setup::ensure_arch(args.arch, Purpose::All)?;
    let pinwatch = match args.arch {
        Arch::X86_64 => build::pinwatch()?,
        other => build::pinwatch_on(&Cross::find(other, &cache, &args.mirrors)?)?,
    };
    let work = Work {
        args,
        pinwatch,
        queue: Mutex::new(queue(args, &cache)?),
        cache,
        troubles: Mutex::default(),
    };
    if !args.check {
        for folder in [folder(args.arch), other_folder()] {
            fs::create_dir_all(folder)?;
        }
    }
    let sheets = work.queue.lock().expect(NO_PANIC).len();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs).map(|_| scope.spawn(|| work.run())).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect(NO_PANIC))
    })?;
    let troubles = work.troubles.into_inner().expect(NO_PANIC);
    let done = if args.check { "are right" } else { "written" };
    println!(
        "{} of {sheets} fact sheets {done}, in {} s",
        sheets - troubles.len(),
        started.elapsed().as_secs()
    );
    if troubles.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("failed: {}", troubles.join(", "));
    Ok(ExitCode::FAILURE)
}

const NO_PANIC: &str = "no worker panics";

/// All kernels of one flavour before the next flavour; cloud kernels first, since they are smaller.
fn queue(args: &FactsArgs, cache: &Cache) -> Result<VecDeque<Source>> {
    let mut kernels: Vec<&Kernel> = Vec::new();
    let mut built = VecDeque::new();
    for choice in &args.kernels {
        match choice {
            Choice::Stock(kernel) => kernels.push(kernel.on(args.arch)?),
            Choice::Built(name) => {
                let (kernel, own) = choice.open(args.arch, cache)?;
                built.push_back(Source {
                    kernel,
                    own: own.map(|own| (name.clone(), own)),
                    flavour: Flavour::Cloud,
                });
            }
        }
    }
    if args.kernels.is_empty() {
        let of_arch = match args.arch {
            Arch::X86_64 => KERNELS,
            Arch::Aarch64 => ARM64_KERNELS,
        };
        kernels.extend(of_arch);
    }
    let flavours = match (args.flavours.as_slice(), args.arch) {
        ([], Arch::X86_64) => &[Flavour::Cloud, Flavour::Full][..],
        ([], Arch::Aarch64) => &[Flavour::Cloud],
        (some, _) => some,
    };
    let pairs = flavours.iter().flat_map(|&flavour| {
        kernels.iter().map(move |&kernel| Source {
            kernel,
            own: None,
            flavour,
        })
    });
    built.extend(pairs);
    Ok(built)
}

/// A kernel with a sheet.
struct Source {
    kernel: &'static Kernel,
    /// A kernel that was built here instead, with its name.
    own: Option<(String, Fetched)>,
    flavour: Flavour,
}

impl Source {
    fn name(&self) -> String {
        if let Some((name, _)) = &self.own {
            return name.clone();
        }
        let flavour = self.flavour.to_possible_value();
        let flavour = flavour.expect("no flavour is hidden");
        format!("{}-{}", self.kernel.series, flavour.get_name())
    }

    fn path(&self) -> PathBuf {
        let mut between = BETWEEN.iter();
        let other = self.own.is_some() || between.any(|kernel| kernel.series == self.kernel.series);
        let folder = match other {
            true => other_folder(),
            false => folder(self.kernel.arch),
        };
        folder.join(format!("{}.json", self.name()))
    }
}

struct Work<'a> {
    args: &'a FactsArgs,
    cache: Cache,
    pinwatch: PathBuf,
    queue: Mutex<VecDeque<Source>>,
    /// Names of sheets that could not be made, or differ.
    troubles: Mutex<Vec<String>>,
}

impl Work<'_> {
    /// Makes sheets until none is left. Fails only if the user interrupts.
    fn run(&self) -> Result<()> {
        loop {
            let next = self.queue.lock().expect(NO_PANIC).pop_front();
            let Some(source) = next else { return Ok(()) };
            let name = source.name();
            eprintln!("xtask: {name}: booting");
            let started = Instant::now();
            let done = self
                .sheet(&source)
                .and_then(|sheet| self.settle(&source.path(), &sheet));
            let seconds = started.elapsed().as_secs();
            match done {
                Ok(what) => eprintln!("xtask: {name}: {what}, after {seconds} s"),
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => {
                    eprintln!("xtask: {name}: FAILED after {seconds} s: {error:#}");
                    self.troubles.lock().expect(NO_PANIC).push(name);
                }
            }
        }
    }

    /// The output of pinwatch in a guest.
    fn sheet(&self, source: &Source) -> Result<String> {
        let guest = Guest {
            own: source.own.as_ref().map(|(_, own)| own.clone()),
            flavour: source.flavour,
            files: vec![Placed {
                host: self.pinwatch.clone(),
                guest: "/usr/bin/pinwatch".to_owned(),
            }],
            memory_mib: 1024,
            timeout: Some(TIMEOUT),
            ..Guest::new(
                source.kernel,
                ["pinwatch", "check", "--facts"].map(str::to_owned).into(),
            )
        };
        let run = |sinks| guest.run(&self.cache, &self.args.mirrors, sinks);
        let [out, _] = collect(run).context("pinwatch in the guest")?;
        Ok(out)
    }

    /// Writes a sheet, or compares it with the committed one.
    fn settle(&self, path: &Path, sheet: &str) -> Result<String> {
        let made: Value = serde_json::from_str(sheet).context("the sheet is not JSON")?;
        let old = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.with_context(|| path.display().to_string())?),
        };
        if old.as_deref() == Some(sheet) {
            return Ok("unchanged".to_owned());
        }
        let changes = match &old {
            None => "there was none".to_owned(),
            Some(old) => match serde_json::from_str(old) {
                Ok(old) => changes(&old, &made),
                Err(error) => format!("the old one is not JSON: {error}"),
            },
        };
        if self.args.check {
            bail!(
                "the sheet differs from this kernel; run `cargo xtask facts` (committed -> this kernel):\n{changes}"
            );
        }
        fs::write(path, sheet).with_context(|| path.display().to_string())?;
        Ok(match old {
            None => format!("new, {} bytes", sheet.len()),
            Some(_) => format!("{} bytes, changed:\n{changes}\n ", sheet.len()),
        })
    }
}

/// One line for each value that differs.
fn changes(old: &Value, new: &Value) -> String {
    let mut found = Vec::new();
    compare("", Some(old), Some(new), &mut found);
    if found.is_empty() {
        found.push("  the layout of the text, no value".to_owned());
    }
    found.join("\n")
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<String>) {
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) {
        let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let dot = if path.is_empty() { "" } else { "." };
            compare(
                &format!("{path}{dot}{key}"),
                old.get(key),
                new.get(key),
                found,
            );
        }
    } else if old != new {
        let show =
            |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), Value::to_string);
        found.push(format!("  {path}: {} -> {}", show(old), show(new)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_change_is_named_with_its_place() {
        let old = json!({"a": {"b": [1, 2], "gone": null}, "same": "x"});
        let new = json!({"a": {"b": [2, 1], "new": {"c": 1}}, "same": "x"});
        let expected =
            "  a.b: [1,2] -> [2,1]\n  a.gone: null -> absent\n  a.new: absent -> {\"c\":1}";
        assert_eq!(changes(&old, &new), expected);
        assert_eq!(changes(&old, &old), "  the layout of the text, no value");
    }
}
