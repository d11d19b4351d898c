//! A release while it is made: its version and date, the programs, and the folders they lie in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fmt};

use anyhow::{Context, Result};

use super::arch::{Arch, Given};
use crate::build;
use crate::cache::Cache;
use crate::child;

pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub struct Release<'a> {
    pub cache: &'a Cache,
    /// target/dist: the files of the release.
    pub dist: PathBuf,
    /// target/stage: folders that are packed into them.
    pub stage: PathBuf,
    pub version: String,
    /// Seconds since 1970 that files in packages have as their date, so that the same sources make the same
    /// packages.
    pub epoch: String,
    pub programs: Vec<Program>,
}

/// A static program without debug information.
pub struct Program {
    pub arch: &'static Arch,
    pub path: PathBuf,
}

impl<'a> Release<'a> {
    /// Empties the folders. One of the programs must be for this machine.
    pub fn open(cache: &'a Cache, given: &[Given]) -> Result<Self> {
        let target = Path::new(ROOT).canonicalize()?.join("target");
        let (dist, stage) = (target.join("dist"), target.join("stage"));
        for folder in [&dist, &stage] {
            let _ = fs::remove_dir_all(folder);
            fs::create_dir_all(folder)?;
        }
        let mut release = Self {
            cache,
            dist,
            stage,
            version: version()?,
            epoch: epoch()?,
            programs: Vec::new(),
        };
        for Given { arch, program } in given {
            release.add(arch, program)?;
        }
        Ok(release)
    }

    fn add(&mut self, arch: &'static Arch, program: &Path) -> Result<()> {
        arch.check(program)?;
        // The names that the Containerfile expects.
        let path = self.dist.join("bin").join(arch.deb).join("pinwatch");
        fs::create_dir_all(path.parent().expect("the path was joined"))?;
        // Line tables are two thirds of the program.
        let mut strip = child::command(arch.strip());
        strip.arg("--strip-debug").arg("-o").arg(&path).arg(program);
        child::run(&mut strip)?;
        self.programs.push(Program { arch, path });
        Ok(())
    }

    /// The program that this machine can run.
    pub fn host(&self) -> &Program {
        let host = self.programs.iter().find(|program| program.arch.is_host());
        host.expect("one is for this machine")
    }

    /// A command that dates its output by the sources instead of the clock.
    pub fn command(&self, program: &str) -> Command {
        let mut command = child::command(program);
        command
            .env("SOURCE_DATE_EPOCH", &self.epoch)
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// The date of the release in a format of date(1).
    pub fn date(&self, format: &str) -> Result<String> {
        let date = format!("--date=@{}", self.epoch);
        let mut command = self.command("date");
        command.args(["--utc", &date, format]);
        Ok(child::output(&mut command)?.trim().to_owned())
    }

    /// A gzip archive of the folder `name` in `parent`, the same for the same files.
    pub fn archive(&self, parent: &Path, name: &str, to: &Path) -> Result<()> {
        let mut tar = self.command("tar");
        tar.args(["--sort=name", "--format=gnu", "--owner=0", "--group=0"])
            .args(["--numeric-owner", &format!("--mtime=@{}", self.epoch)])
            .args(["--use-compress-program=gzip -9n", "--create", "--file"])
            .arg(to)
            .arg("-C")
            .arg(parent)
            .arg(name);
        child::run(&mut tar)
    }
}

/// Runs one step of a release, and says what it is and how long it took.
pub fn step<T>(name: impl fmt::Display, act: impl FnOnce() -> Result<T>) -> Result<T> {
    child::check_interrupted()?;
    eprintln!("xtask: {name}");
    let started = Instant::now();
    let made = act().with_context(|| format!("this step failed: {name}"))?;
    eprintln!("xtask: {name}: done in {} s", started.elapsed().as_secs());
    Ok(made)
}

/// The version of pinwatch in the workspace.
pub fn version() -> Result<String> {
    let mut id = build::cargo();
    id.args(["pkgid", "--offline", "--package", "pinwatch"]);
    let id = child::output(&mut id)?;
    let version = id.trim().rsplit(['#', '@']).next();
    Ok(version.context("cargo pkgid printed nothing")?.to_owned())
}

/// The date of the last commit, unless SOURCE_DATE_EPOCH is set.
fn epoch() -> Result<String> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut log = child::command("git");
    log.args(["log", "-1", "--format=%ct"]).current_dir(ROOT);
    let epoch = child::output(&mut log)
        .context("the sources have no date: set SOURCE_DATE_EPOCH outside a git repository")?;
    Ok(epoch.trim().to_owned())
}
