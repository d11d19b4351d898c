//! The kernels of an evaluation: stock ones, the user's images, and kernels built from patches.

use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};

use super::args::EvaluateArgs;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::debian::kernels::{Fetched, Kernel, OWN};
use crate::kernel::{self, Choice, Compiler, Recipe};

/// A kernel to record on.
#[derive(Clone)]
pub struct Side {
    /// Also the beginning of its recordings' names.
    pub name: &'static str,
    pub kernel: &'static Kernel,
    pub own: Option<Fetched>,
    /// Appended to its command line.
    pub append: Vec<String>,
}

/// Base, new and, if asked for, also, in this order. Builds the kernels that patches ask for.
pub fn sides(args: &EvaluateArgs, cache: &Cache, scratch: &Path) -> Result<Vec<Side>> {
    let appended = |own: &[String]| [&args.append, own].concat();
    let mut sides = Vec::new();
    let mut add = |name, (kernel, own), append: &[String]| {
        sides.push(Side {
            name,
            kernel,
            own,
            append: appended(append),
        });
    };
    if args.builds() {
        let [base, new] = built(args, cache)?;
        add("base", (&OWN, Some(base)), &args.base_append);
        add("new", (&OWN, Some(new)), &args.new_append);
    } else {
        let base = chosen(&args.base, &args.base_kernel, &args.base_modules);
        let base = base.open("base", cache, scratch)?;
        add("base", base, &args.base_append);
        if args.aa.is_none() {
            let new = chosen(&args.new, &args.new_kernel, &args.new_modules);
            add("new", new.open("new", cache, scratch)?, &args.new_append);
        }
    }
    if let Some(also) = &args.also {
        add("also", also.open(Arch::X86_64, cache)?, &args.also_append);
    }
    Ok(sides)
}

/// A side as the user named it: a choice, or an image with its modules.
struct Named<'a> {
    choice: Option<&'a Choice>,
    image: Option<&'a Path>,
    modules: Option<&'a Path>,
}

fn chosen<'a, P: AsRef<Path>>(
    choice: &'a Option<Choice>,
    image: &'a Option<P>,
    modules: &'a Option<P>,
) -> Named<'a> {
    Named {
        choice: choice.as_ref(),
        image: image.as_ref().map(AsRef::as_ref),
        modules: modules.as_ref().map(AsRef::as_ref),
    }
}

impl Named<'_> {
    fn open(
        &self,
        name: &str,
        cache: &Cache,
        scratch: &Path,
    ) -> Result<(&'static Kernel, Option<Fetched>)> {
        match (self.image, self.choice) {
            (Some(image), _) => {
                let own = Fetched::own(image, self.modules, &scratch.join(name))?;
                Ok((&OWN, Some(own)))
            }
            (None, Some(choice)) => choice.open(Arch::X86_64, cache),
            (None, None) => bail!("the kernel {name} has no name: give --{name}"),
        }
    }
}

/// Builds the source of `--base` without and with the patches. Both have one configuration.
fn built(args: &EvaluateArgs, cache: &Cache) -> Result<[Fetched; 2]> {
    let Some(Choice::Stock(stock)) = &args.base else {
        bail!("--new-patch needs the series of a source: --base 5.10, 6.1, 6.12, 7.2 or 7.3");
    };
    let source =
        kernel::parse_source(stock.series).context("--new-patch cannot use this --base")?;
    let recipe = |name: String, more: &[_]| -> Result<Recipe> {
        Ok(Recipe {
            name,
            source,
            patches: [&args.patches, more].concat(),
            fragments: args.fragments.clone(),
            arch: Arch::X86_64,
            compiler: Compiler::Gcc,
            jobs: available_parallelism()?.get(),
        })
    };
    let build = |recipe: &Recipe| kernel::build(recipe, cache, &args.mirrors);
    let series = source.series;
    Ok([
        build(&recipe(format!("{series}-base"), &[])?)?,
        build(&recipe(format!("{series}-new"), &args.new_patches)?)?,
    ])
}
