//! `cargo xtask kernel`: builds, lists and removes kernels.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::Result;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::Kernel;
use crate::kernel::build::{self, Recipe};
use crate::kernel::make::Compiler;
use crate::kernel::{source, store};

/// Build kernels with your patches, for `cargo xtask vm` and `cargo xtask evaluate`
#[derive(clap::Args)]
pub struct KernelArgs {
    #[command(subcommand)]
    command: KernelCommand,
}

#[derive(clap::Subcommand)]
enum KernelCommand {
    Build(BuildArgs),
    List(ListArgs),
    Remove(RemoveArgs),
}

/// Build a small kernel from Debian's source, with your patches
///
/// The first build of a source downloads it (120 to 170 MB) and compiles some 1,300 files. Later builds
/// compile only what your patches and fragments concern. A kernel that is up to date is not built again.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask kernel build plain --source 6.12
  cargo xtask kernel build mine --source 6.12 --patch ~/0001-mm-gup.patch --patch ~/0002-mm-gup.patch
  cargo xtask kernel build v4 --source 5.10 --patch xtask/kernels/v4-5.10.patch --patch xtask/kernels/pin-faults-5.10.patch
  cargo xtask kernel build thin --source 6.12 --compiler clang --config xtask/kernels/thinlto.config
  cargo xtask kernel build 64k --source 6.12 --arch aarch64 --config xtask/kernels/64k.config
  cargo xtask vm --kernel v4 -- pinwatch check

docs/lab.md describes the kernels, their places and their times.")]
struct BuildArgs {
    /// Name of the kernel; a kernel that has it already is replaced
    #[arg(value_parser = store::parse_name)]
    name: String,
    #[command(flatten)]
    ingredients: Ingredients,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

#[derive(clap::Args)]
struct Ingredients {
    /// Kernel series of the source: 5.10, 6.1, 6.12, 7.2 or 7.3
    #[arg(long, value_name = "SERIES", value_parser = source::parse)]
    source: &'static Kernel,
    /// Architecture of the kernel
    #[arg(long, value_enum, default_value_t)]
    arch: Arch,
    /// Apply this patch, made with a/ and b/ folders as git does (repeatable, in order)
    #[arg(long = "patch", value_name = "FILE")]
    patches: Vec<PathBuf>,
    /// Add these symbols to the configuration, one CONFIG_NAME=y per line (repeatable)
    #[arg(long = "config", value_name = "FRAGMENT")]
    fragments: Vec<PathBuf>,
    /// Compiler; clang comes with lld and the other tools of LLVM
    #[arg(long, value_enum, default_value_t)]
    compiler: Compiler,
    /// Compile this many files at a time [default: the number of processors]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// List built kernels and fetched sources
#[derive(clap::Args)]
#[command(after_help = "Example:
  cargo xtask kernel list")]
struct ListArgs {}

/// Remove built kernels, or a source with its build folder
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask kernel remove v4 mine
  cargo xtask kernel remove --source 5.10
  cargo xtask kernel remove --all")]
struct RemoveArgs {
    /// Built kernels to remove
    #[arg(value_name = "NAME", required_unless_present_any = ["sources", "all"])]
    names: Vec<String>,
    /// Remove the source of this series and its build folder (repeatable)
    #[arg(long = "source", value_name = "SERIES", value_parser = source::parse)]
    sources: Vec<&'static Kernel>,
    /// Remove everything
    #[arg(long, conflicts_with_all = ["names", "sources"])]
    all: bool,
}

pub fn main(args: &KernelArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    match &args.command {
        KernelCommand::Build(args) => build(args, &cache)?,
        KernelCommand::List(_) => list(&cache)?,
        KernelCommand::Remove(args) => remove(args, &cache)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn build(args: &BuildArgs, cache: &Cache) -> Result<()> {
    let Ingredients {
        source,
        arch,
        patches,
        fragments,
        compiler,
        jobs,
    } = &args.ingredients;
    let recipe = Recipe {
        name: args.name.clone(),
        source,
        patches: patches.clone(),
        fragments: fragments.clone(),
        arch: *arch,
        compiler: *compiler,
        jobs: jobs.map_or_else(processors, Ok)?,
    };
    let started = Instant::now();
    let kernel = build::build(&recipe, cache, &args.mirrors)?;
    eprintln!(
        "xtask: kernel {} ({}) is ready after {} s: cargo xtask vm --kernel {0} -- uname -r",
        args.name,
        kernel.release,
        started.elapsed().as_secs()
    );
    Ok(())
}

fn processors() -> Result<usize> {
    Ok(available_parallelism()?.get())
}

fn list(cache: &Cache) -> Result<()> {
    let names = store::names(cache)?;
    if names.is_empty() {
        println!("no kernel is built: cargo xtask kernel build --help");
    }
    for name in &names {
        let recipe = fs::read_to_string(store::recipe_file(cache, name)).unwrap_or_default();
        println!("{name}: {}", summary(&recipe));
    }
    for series in source::fetched(cache) {
        let folder = source::folder(cache, series);
        println!(
            "source {series}: {:.1} GiB in {}",
            size(&folder)? as f64 / f64::from(1 << 30),
            folder.display()
        );
    }
    Ok(())
}

/// `5.10.262 with my.patch`.
fn summary(recipe: &str) -> String {
    let mut version = "";
    let mut files = Vec::new();
    for line in recipe.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["source", _, release] => version = release,
            ["patch" | "fragment", _, name] => files.push(name),
            ["compiler", name] => files.push(name),
            _ => {}
        }
    }
    match files.is_empty() {
        true => version.to_owned(),
        false => format!("{version} with {}", files.join(", ")),
    }
}

fn size(folder: &Path) -> Result<u64> {
    let mut total = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                folders.push(entry.path());
            }
            total += meta.len();
        }
    }
    Ok(total)
}

fn remove(args: &RemoveArgs, cache: &Cache) -> Result<()> {
    let (names, sources) = if args.all {
        (store::names(cache)?, source::fetched(cache))
    } else {
        let sources = args.sources.iter().map(|source| source.series).collect();
        (args.names.clone(), sources)
    };
    for name in &names {
        store::remove(cache, name)?;
        eprintln!("xtask: removed kernel {name}");
    }
    for series in sources {
        eprintln!("xtask: removing the source of kernel {series}");
        source::remove(cache, series)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_summed_up() {
        let recipe = "source 5.10 5.10.262\nconfig 00\npatch 11 a.patch\npatch 22 b.patch\n";
        assert_eq!(summary(recipe), "5.10.262 with a.patch, b.patch");
        let clang = "source 6.12 6.12.1\nconfig 00\ncompiler clang\nfragment 11 thinlto.config\n";
        assert_eq!(summary(clang), "6.12.1 with clang, thinlto.config");
        assert_eq!(summary("source 6.1 6.1.9\nconfig 00\n"), "6.1.9");
    }
}
