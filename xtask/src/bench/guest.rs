//! The guest of all measurements: one processor whose clock counts instructions. Figures are the same on every
//! host, and repeatable from boot to boot.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::other_tools::OtherTools;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{Flavour, Kernel};
use crate::guest::collected::collect;
use crate::guest::qemu::Sinks;
use crate::guest::{Guest, Placed};

const TIMEOUT: Duration = Duration::from_secs(1200);
const PROGRAM: &str = "/usr/bin/pinwatch-bench";

pub struct BenchGuest<'a> {
    pub cache: &'a Cache,
    pub mirrors: &'a MirrorArgs,
    /// The program that measures: `pinwatch/benches/guest`.
    pub program: PathBuf,
    pub pinwatch: Option<PathBuf>,
    pub other_tools: Option<OtherTools>,
}

impl<'a> BenchGuest<'a> {
    /// A guest with nothing but the program that measures.
    pub fn new(cache: &'a Cache, mirrors: &'a MirrorArgs, program: PathBuf) -> Self {
        Self {
            cache,
            mirrors,
            program,
            pinwatch: None,
            other_tools: None,
        }
    }

    /// The guest's `uname -r`.
    pub fn release(&self, kernel: &Kernel) -> Result<String> {
        let fetched = kernel.fetch(Flavour::Cloud, self.cache, self.mirrors)?;
        Ok(fetched.release)
    }

    /// Measures on several kernels at once; instruction counts do not depend on other load. Results are in the order
    /// of `kernels`.
    pub fn on_each<T: Send>(
        &self,
        kernels: &[&'static Kernel],
        measure: impl Fn(&'static Kernel) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let measure = &measure;
        thread::scope(|scope| {
            let workers: Vec<_> = kernels
                .iter()
                .map(|kernel| scope.spawn(move || measure(kernel)))
                .collect();
            let measured = workers.into_iter();
            measured
                .map(|worker| worker.join().expect("a worker does not panic"))
                .collect()
        })
    }

    /// Boots, measures, and returns the output.
    pub fn run(&self, kernel: &'static Kernel, args: &[&str]) -> Result<String> {
        self.run_in(&self.guest(kernel, args), Guest::run_counting)
    }

    /// The same with two processors, as the live tests have: from 6.18 on the verifier processes fewer instructions
    /// on a machine with one.
    pub fn run_plain(&self, kernel: &'static Kernel, args: &[&str]) -> Result<String> {
        let guest = Guest {
            cpus: 2,
            ..self.guest(kernel, args)
        };
        self.run_in(&guest, Guest::run)
    }

    fn guest(&self, kernel: &'static Kernel, args: &[&str]) -> Guest {
        let command = [PROGRAM].iter().chain(args);
        Guest {
            files: self.files(),
            // The same addresses each time.
            append: vec!["norandmaps".to_owned()],
            cpus: 1,
            timeout: Some(TIMEOUT),
            ..Guest::new(kernel, command.map(|&word| word.to_owned()).collect())
        }
    }

    fn run_in(
        &self,
        guest: &Guest,
        run: fn(&Guest, &Cache, &MirrorArgs, Sinks) -> Result<u8>,
    ) -> Result<String> {
        let run = |sinks| run(guest, self.cache, self.mirrors, sinks);
        let [out, _] = collect(run).context("the measurement")?;
        Ok(out)
    }

    fn files(&self) -> Vec<Placed> {
        let mut files: Vec<_> = self
            .other_tools
            .iter()
            .flat_map(OtherTools::placed)
            .collect();
        files.push(placed(&self.program, PROGRAM));
        files.extend(
            self.pinwatch
                .iter()
                .map(|pinwatch| placed(pinwatch, "/usr/bin/pinwatch")),
        );
        files
    }
}

fn placed(host: &std::path::Path, guest: &str) -> Placed {
    Placed {
        host: host.to_owned(),
        guest: guest.to_owned(),
    }
}
