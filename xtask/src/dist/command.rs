//! `cargo xtask dist`: makes all files of a release.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use super::arch::{self, ARCHITECTURES, Given};
use super::release::{Release, step};
use super::{archive, deb, deb_test, install_test, rpm, rpm_test, tools, validate};
use crate::build::{self, cross::Cross};
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, Kernel};
use crate::setup::{self, Purpose};

/// Make all files of a release in target/dist: packages, archives, chart, image, checksums
///
/// A machine with x86-64 builds pinwatch for arm64 too. Installs the programs that it needs, checks each package, and prints all files with their sizes.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask dist
  cargo xtask dist --program arm64=/tmp/pinwatch
  cargo xtask dist --native --only deb --only rpm
  cargo xtask dist --only deb --try 6.1 --try 7.3
  cargo xtask dist --validate")]
pub struct DistArgs {
    /// Package this static program instead of building one (repeatable; amd64 or arm64)
    #[arg(long = "program", value_name = "ARCH=FILE", value_parser = arch::parse)]
    programs: Vec<Given>,
    /// Build pinwatch for this machine's architecture only
    #[arg(long)]
    native: bool,
    /// Make only these files (repeatable) [default: all]
    #[arg(long, value_enum, value_name = "KIND")]
    only: Vec<Kind>,
    /// Test the Debian package in a VM with Debian 12 and this kernel: installation, Prometheus over TLS, an
    /// alert on a stuck pin, upgrade and removal (repeatable)
    #[arg(long = "try", value_name = "SERIES", value_parser = kernels::parse)]
    tries: Vec<&'static Kernel>,
    /// Make nothing. Check chart, manifests, dashboards and recipes against published schemas, with tools
    /// from npm and PyPI
    #[arg(long, conflicts_with_all = ["programs", "native", "only", "tries"])]
    validate: bool,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Archive with the static program, for any distribution
    Tar,
    /// Debian package, checked by lintian; installed, upgraded and removed in a folder
    Deb,
    /// rpm package, checked by rpmlint; installed, upgraded and removed in a folder
    Rpm,
    /// Helm chart
    Chart,
    /// Container image as an OCI archive
    Image,
    /// Bill of materials in CycloneDX, and the check of all licences
    Bom,
}

impl DistArgs {
    fn wants(&self, kind: Kind) -> bool {
        self.only.is_empty() || self.only.contains(&kind)
    }

    /// The architectures whose programs are built.
    fn built(&self) -> impl Iterator<Item = &'static arch::Arch> {
        let is_given =
            |arch: &arch::Arch| self.programs.iter().any(|given| given.arch.deb == arch.deb);
        let crosses = |arch: &arch::Arch| !self.native && arch.crossed().is_some();
        ARCHITECTURES
            .iter()
            .filter(move |arch| !is_given(arch) && (arch.is_host() || crosses(arch)))
    }

    /// The programs to package.
    fn programs(&self, cache: &Cache) -> Result<Vec<Given>> {
        let mut programs = Vec::new();
        for arch in self.built() {
            let program = step(
                format!("the static program for {}", arch.deb),
                || match arch.crossed() {
                    None => build::pinwatch(),
                    Some(other) => build::pinwatch_on(&Cross::find(other, cache, &self.mirrors)?),
                },
            )?;
            programs.push(Given { arch, program });
        }
        programs.extend(self.programs.iter().cloned());
        Ok(programs)
    }
}

pub fn main(args: &DistArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    if args.validate {
        validate::run(&cache)?;
        println!("chart, manifests, dashboards and recipes are valid");
        return Ok(ExitCode::SUCCESS);
    }
    step("setup", || setup(args, &cache))?;
    let programs = args.programs(&cache)?;
    let release = Release::open(&cache, &programs)?;
    archive::recipes(&release)?;
    let mut debs = Vec::new();
    for program in &release.programs {
        let (name, native) = (program.arch.deb, program.arch.is_host());
        if args.wants(Kind::Bom) {
            step(format!("bill of materials for {name}"), || {
                tools::parts(&release, program)
            })?;
        }
        if args.wants(Kind::Tar) {
            step(format!("archive for {name}"), || {
                archive::tar(&release, program)
            })?;
        }
        if args.wants(Kind::Deb) || (native && !args.tries.is_empty()) {
            debs.push(step(format!("Debian package for {name}"), || {
                let package = deb::make(&release, program, "1", &release.dist)?;
                deb::lint(&package)?;
                let upgrade = deb::make(&release, program, "2", &release.stage.join("upgrade"))?;
                deb_test::run(&release, &args.mirrors, program, &package, &upgrade)?;
                Ok((native, package, upgrade))
            })?);
        }
        if args.wants(Kind::Rpm) {
            step(format!("rpm package for {name}"), || {
                let package = rpm::make(&release, program, "1", &release.dist)?;
                rpm::lint(&package)?;
                let upgrade = rpm::make(&release, program, "2", &release.stage.join("upgrade"))?;
                rpm_test::run(&release, &args.mirrors, program, &package, &upgrade)
            })?;
        }
        if args.wants(Kind::Image) {
            step(format!("container image for {name}"), || {
                archive::image(&release, program)
            })?;
        }
    }
    if args.wants(Kind::Chart) {
        step("Helm chart", || archive::chart(&release))?;
    }
    if args.wants(Kind::Bom) {
        step("licences of all dependencies", || {
            tools::check_licences(&cache)
        })?;
    }
    archive::checksums(&release)?;
    if let Some((_, package, upgrade)) = debs.iter().find(|(native, ..)| *native) {
        try_in_guests(args, &release, package, upgrade)?;
    }
    print!(
        "{}",
        summary(&release.dist, &archive::files(&release.dist)?)
    );
    Ok(ExitCode::SUCCESS)
}

/// Installs the programs that the chosen files need.
fn setup(args: &DistArgs, cache: &Cache) -> Result<()> {
    let kinds = [
        (Kind::Deb, Purpose::Deb),
        (Kind::Rpm, Purpose::Rpm),
        (Kind::Image, Purpose::Image),
    ];
    setup::ensure(cache, Purpose::Build)?;
    for (kind, purpose) in kinds {
        if args.wants(kind) {
            setup::ensure(cache, purpose)?;
        }
    }
    if !args.tries.is_empty() {
        setup::ensure(cache, Purpose::Deb)?;
        setup::ensure(cache, Purpose::InstallTest)?;
    }
    for arch in args.built() {
        if let Some(other) = arch.crossed() {
            setup::ensure_arch(other, Purpose::Build)?;
        }
    }
    let given = args.programs.iter().map(|given| given.arch);
    for arch in given.filter(|arch| !arch.is_host()) {
        setup::ensure_program(arch.strip(), arch.cross_package)?;
    }
    Ok(())
}

fn try_in_guests(
    args: &DistArgs,
    release: &Release<'_>,
    package: &Path,
    upgrade: &Path,
) -> Result<()> {
    for kernel in &args.tries {
        step(format!("the Debian package on {}", kernel.series), || {
            install_test::run(kernel, release.cache, &args.mirrors, package, upgrade)
        })?;
    }
    Ok(())
}

/// A table of the files, and the folder as the last line.
fn summary(folder: &Path, files: &[(String, u64)]) -> String {
    let lines = files.iter().map(|(name, size)| {
        let mib = *size as f64 / f64::from(1 << 20);
        format!("{mib:>8.2} MiB  {name}\n")
    });
    let lines: String = lines.collect();
    format!("{lines}{}\n", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_every_file_and_the_folder_last() {
        let files = [
            ("a.deb".to_owned(), 3 << 20),
            ("bin/amd64/p".to_owned(), 52429),
        ];
        assert_eq!(
            summary(Path::new("/d"), &files),
            "    3.00 MiB  a.deb\n    0.05 MiB  bin/amd64/p\n/d\n"
        );
    }
}
