//! `cargo xtask test --lab builds`: kernels with other configurations and compilers than Debian's. The live tests of
//! `builds::` compare what is attached with what is counted there.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::Result;

use crate::arch::Arch;
use crate::build::{self, cross::Cross};
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::Fetched;
use crate::generate::builds_md;
use crate::guest::qemu::Sinks;
use crate::guest::{Guest, Placed};
use crate::kernel::{self, BUILDS, Build};
use crate::test::counts::{Counter, Printer};
use crate::test::matrix::{LIVE_TESTS, placed};
use crate::test::steps::Steps;

const TIMEOUT: Duration = Duration::from_secs(900);

/// Builds and boots each kernel. Each live test counts as one test.
pub fn run(
    cache: &Cache,
    mirrors: &MirrorArgs,
    counter: &Counter,
    steps: &Steps<'_>,
) -> Result<()> {
    let mut files = None;
    let mut rows = BTreeMap::new();
    for one in &BUILDS {
        let made = steps.run(&format!("building {}", one.name), || {
            kernel::build(&one.recipe()?, cache, mirrors)
        })?;
        let Some(made) = made else { continue };
        if files.as_ref().is_none_or(|(arch, _)| *arch != one.arch) {
            let name = format!("building for guests of {}", one.arch.debian());
            files = steps
                .run(&name, || programs(one.arch, cache, mirrors))?
                .map(|files| (one.arch, files));
        }
        let Some((_, files)) = &files else { continue };
        let separate = Counter::default();
        let name = format!("live tests on {}", one.name);
        let status = steps.run(&name, || boot(one, made, files, cache, mirrors, &separate))?;
        // A guest that did not run is counted as a failure already.
        if let Some(status) = status {
            counter.add(&name, &separate, status == 0);
        }
        rows.insert(one.name.to_owned(), separate.counts().builds);
    }
    builds_md::update(rows)
}

/// The files of guests. Rows of one architecture follow each other in [`BUILDS`].
fn programs(arch: Arch, cache: &Cache, mirrors: &MirrorArgs) -> Result<[Placed; 2]> {
    let [pinwatch, tests] = match arch {
        Arch::X86_64 => {
            let [pinwatch, tests, _] = build::for_live_tests()?;
            [pinwatch, tests]
        }
        Arch::Aarch64 => build::for_live_tests_on(&Cross::find(arch, cache, mirrors)?)?,
    };
    Ok(placed(pinwatch, tests))
}

/// Boots a kernel and runs its live tests. Returns the exit status of their program.
fn boot(
    build: &Build,
    built: Fetched,
    files: &[Placed],
    cache: &Cache,
    mirrors: &MirrorArgs,
    separate: &Counter,
) -> Result<u8> {
    let prefix = format!("[{}] ", build.name);
    let printer = || Box::new(Printer::new(io::stdout(), &prefix, separate));
    let fixed = [LIVE_TESTS, "--test-threads=1", "--show-output"];
    let words: Vec<_> = fixed
        .iter()
        .chain(build.tests)
        .map(|word| (*word).to_owned())
        .collect();
    let guest = Guest {
        own: Some(built),
        files: files.to_vec(),
        timeout: Some(TIMEOUT),
        ..Guest::new(kernel::own(build.arch), words)
    };
    let sinks = Sinks {
        out: printer(),
        err: printer(),
    };
    guest.run(cache, mirrors, sinks)
}
