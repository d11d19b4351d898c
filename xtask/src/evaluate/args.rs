//! The command line of `cargo xtask evaluate`.

use std::path::PathBuf;

use crate::debian::apt::MirrorArgs;
use crate::guest::Clock;
use crate::kernel::Choice;

/// Boot two kernels, record the same load on both, and compare
///
/// With --new-patch, it builds both kernels from one source first. Prints the comparison. Writes it as JSON,
/// page and mail to a folder, beside the recordings. Exit status: 0 if the new kernel is no worse, 1 if it is worse, 2 if the
/// recordings cannot be compared.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask evaluate --base 5.10 --new 6.12
  cargo xtask evaluate --base 6.12 --new-patch my.patch
  cargo xtask evaluate --base 6.12 --new-patch my.patch --until-resolved --max-boots 12
  cargo xtask evaluate --base 6.12 --new 7.3 --also 6.18 --repeat 3
  cargo xtask evaluate --base 7.2 --new 7.3 --append cma=512M
  cargo xtask evaluate --base 6.12 --aa 20
  cargo xtask evaluate --base 6.12 --aa 20 --repeat 3 --boots 12
  cargo xtask evaluate --base-kernel ../linux/base/vmlinux --new-kernel ../linux/patched/vmlinux

docs/lab.md describes kernels built from patches; docs/evaluation.md the comparison, and the configuration
that your own kernel needs.")]
pub struct EvaluateArgs {
    /// Kernel to compare with: a stock one, or one that `cargo xtask kernel build` made
    #[arg(
        long,
        value_name = "SERIES|NAME",
        required_unless_present = "base_kernel"
    )]
    pub base: Option<Choice>,
    /// Kernel to evaluate
    #[arg(long, value_name = "SERIES|NAME", required_unless_present_any = ["new_kernel", "new_patches", "aa"])]
    pub new: Option<Choice>,
    /// Build both kernels from Debian's source of the series in --base, and the new one with this patch
    /// (repeatable, in order)
    #[arg(long = "new-patch", value_name = "FILE", conflicts_with_all = ["new", "new_kernel", "base_kernel"])]
    pub new_patches: Vec<PathBuf>,
    /// Apply this patch to both kernels (repeatable, in order; before --new-patch)
    #[arg(long = "patch", value_name = "FILE", requires = "new_patches")]
    pub patches: Vec<PathBuf>,
    /// Add these symbols to the configuration of both kernels (repeatable)
    #[arg(long = "config", value_name = "FRAGMENT", requires = "new_patches")]
    pub fragments: Vec<PathBuf>,
    /// Your own kernel instead of --base: a vmlinux or a bzImage
    #[arg(long, value_name = "PATH", conflicts_with = "base")]
    pub base_kernel: Option<PathBuf>,
    /// Your own kernel instead of --new: a vmlinux or a bzImage
    #[arg(long, value_name = "PATH", conflicts_with = "new")]
    pub new_kernel: Option<PathBuf>,
    /// Modules of --base-kernel: the folder lib/modules/RELEASE that `make modules_install` makes
    #[arg(long, value_name = "PATH", requires = "base_kernel")]
    pub base_modules: Option<PathBuf>,
    /// Modules of --new-kernel
    #[arg(long, value_name = "PATH", requires = "new_kernel")]
    pub new_modules: Option<PathBuf>,
    /// A third kernel; it is compared with base too
    #[arg(long, value_name = "SERIES|NAME", conflicts_with = "aa")]
    pub also: Option<Choice>,
    /// Append arguments to the command line of every kernel; later ones win
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub append: Vec<String>,
    /// Append arguments to the command line of base only
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub base_append: Vec<String>,
    /// Append arguments to the command line of new only
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub new_append: Vec<String>,
    /// Append arguments to the command line of --also only
    #[arg(
        long,
        value_name = "ARGS",
        allow_hyphen_values = true,
        requires = "also"
    )]
    pub also_append: Vec<String>,
    /// Boots of each kernel, in the order base, new, new, base, ...; three or more compare boots instead of
    /// pins
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub repeat: u32,
    /// Boot on after --repeat until each figure that decides has a verdict, or needs more boots than
    /// --max-boots
    #[arg(long)]
    pub until_resolved: bool,
    /// End --until-resolved after this many boots of all kernels together
    #[arg(long, value_name = "N", default_value_t = 20, requires = "until_resolved", value_parser = clap::value_parser!(u32).range(2..=999))]
    pub max_boots: u32,
    /// Compare base with itself this many times, each with --repeat boots on either side: how often does the
    /// comparison see a difference where there is none?
    #[arg(long, value_name = "N", conflicts_with_all = ["new", "new_kernel", "new_patches", "until_resolved"], value_parser = clap::value_parser!(u32).range(1..=99))]
    pub aa: Option<u32>,
    /// Make this many boots for --aa, and draw those of each comparison from them. The comparisons then depend on
    /// each other [default: each boot is in one comparison]
    #[arg(long, value_name = "N", requires = "aa", value_parser = clap::value_parser!(u32).range(2..=999))]
    pub boots: Option<u32>,
    /// Write the result of --aa into docs/evaluation.md
    #[arg(long, requires = "aa")]
    pub document: bool,
    /// What the guests' clock counts [default: time with KVM, instructions without]
    #[arg(long, value_name = "UNIT")]
    pub clock: Option<Clock>,
    /// Repetitions of the load in each boot
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub load: u32,
    /// Hook the isolation of each page too (--with isolate_lru). Claims C3 and C10 need it; it adds about 700 instructions to
    /// each page that moves
    #[arg(long)]
    pub isolation: bool,
    /// Accept a difference of the recordings, as `pinwatch compare --allow` does (repeatable)
    #[arg(long, value_name = "DIFF")]
    pub allow: Vec<String>,
    /// Folder for the results
    #[arg(long, value_name = "FOLDER", default_value = "target/evaluate")]
    pub output: PathBuf,
    #[command(flatten)]
    pub mirrors: MirrorArgs,
}
