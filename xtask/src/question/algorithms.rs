//! The four algorithms, and the kernel that has each.

use anyhow::Result;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{Fetched, Kernel, OWN};
use crate::evaluate::Side;
use crate::kernel::{self, Choice, Recipe};

pub struct Algorithm {
    /// Also the beginning of its recording's name.
    pub key: &'static str,
    /// Its column.
    pub title: &'static str,
    /// Its name in a sentence.
    pub name: &'static str,
    pub does: &'static str,
    pub from: From,
    /// Appended to the kernel's command line.
    append: &'static [&'static str],
}

pub enum From {
    /// Debian's kernel.
    Stock(&'static str),
    /// Built from Debian's source, with patches in `xtask/kernels`.
    Built {
        series: &'static str,
        name: &'static str,
        patches: &'static [&'static str],
    },
}

pub const ALGORITHMS: [Algorithm; 4] = [
    Algorithm {
        key: "old",
        title: "old loop",
        name: "the old loop",
        does: "It moves only pages of CMA areas. It isolates them, unpins everything, migrates, and starts again. Since \
               5.10.38 it retries a failed isolation without limit and fails at the first failed migration. Before, such \
               pages stayed in CMA and the pin succeeded.",
        from: From::Built {
            series: "5.10",
            name: "question-old",
            patches: &[],
        },
        append: &[kernel::PAGES_IN_CMA],
    },
    Algorithm {
        key: "v4",
        title: "version 4",
        name: "version 4",
        does: "The patch of the review. It moves pages of ZONE_MOVABLE and CMA, forces FOLL_WRITE, and gives up at the \
               11th failed migration or the 101st failed isolation.",
        from: From::Built {
            series: "5.10",
            name: "question-v4",
            patches: &["v4-5.10.patch"],
        },
        append: &[],
    },
    Algorithm {
        key: "6.1",
        title: "6.1",
        name: "6.1",
        does: "What was merged in 5.13, and changed since. It fails at the first failed migration. Isolation has no limit.",
        from: From::Stock("6.1"),
        append: &[],
    },
    Algorithm {
        key: "7.3",
        title: "7.3",
        name: "7.3",
        does: "The same by folios.",
        from: From::Stock("7.3"),
        append: &[],
    },
];

impl Algorithm {
    /// Builds the kernel if it has to be built.
    pub fn side(&self, cache: &Cache, mirrors: &MirrorArgs) -> Result<Side> {
        let (kernel, own) = self.open(cache, mirrors)?;
        Ok(Side {
            name: self.key,
            kernel,
            own,
            append: self.append.iter().map(|arg| (*arg).to_owned()).collect(),
        })
    }

    fn open(
        &self,
        cache: &Cache,
        mirrors: &MirrorArgs,
    ) -> Result<(&'static Kernel, Option<Fetched>)> {
        match self.from {
            From::Stock(series) => series.parse::<Choice>()?.open(Arch::X86_64, cache),
            From::Built {
                series,
                name,
                patches,
            } => {
                let recipe = Recipe::with_own_patches(name, series, patches)?;
                Ok((&OWN, Some(kernel::build(&recipe, cache, mirrors)?)))
            }
        }
    }

    /// Where its kernel comes from, in words.
    pub fn origin(&self) -> String {
        match self.from {
            From::Stock(series) => format!("Debian's kernel {series}"),
            From::Built {
                series, patches, ..
            } => match patches {
                [] => format!("built from Debian's source of {series}"),
                patches => format!(
                    "built from Debian's source of {series} with `{}`",
                    patches.join("`, `")
                ),
            },
        }
    }
}
