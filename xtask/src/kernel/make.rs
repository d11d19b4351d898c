//! Runs the kernel's `make` with progress, a log, and the compiler's message if it fails.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::child::{self, Waited};
use crate::kernel::source::Source;

/// Steps that take most of the time of a build; make prints one line for each.
const COMPILED: [&str; 2] = ["  CC      ", "  AS      "];
/// Steps to name: they take long, and compile nothing.
const NAMED: [&str; 3] = ["  LD      vmlinux", "  BTF     ", "  GEN     "];
/// Lines of the log to show after a failure.
const TAIL: usize = 15;
/// Compiled files of a first build, roughly.
const USUAL_EXTENT: usize = 1300;
const ON_TERMINAL: Duration = Duration::from_millis(500);
const IN_LOG: Duration = Duration::from_secs(20);

/// Compiler of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Compiler {
    #[default]
    Gcc,
    /// clang with lld and the other tools of LLVM.
    Clang,
}

/// Runs make in the build folder of a source.
pub struct Make<'a> {
    pub source: &'a Source,
    pub arch: Arch,
    /// Appended to the release that the kernel reports.
    pub suffix: String,
    pub compiler: Compiler,
    pub jobs: usize,
}

impl Make<'_> {
    /// Builds short targets silently.
    pub fn quiet(&self, targets: &[&str]) -> Result<()> {
        self.run(targets, None)
    }

    /// Builds targets and shows how far they are.
    pub fn shown(&self, what: &str, targets: &[&str]) -> Result<()> {
        let extent = fs::read_to_string(self.source.extent(self.arch)).ok();
        let extent = extent.and_then(|text| text.trim().parse().ok());
        let progress = Progress::new(what, extent.unwrap_or(USUAL_EXTENT));
        self.run(targets, Some(&progress))?;
        let compiled = progress.end();
        // A build after a patch compiles less and says nothing about a whole one.
        if extent.is_none_or(|extent| compiled > extent) {
            fs::write(self.source.extent(self.arch), compiled.to_string())?;
        }
        Ok(())
    }

    fn run(&self, targets: &[&str], progress: Option<&Progress>) -> Result<()> {
        let log = Arc::new(Mutex::new(File::create(self.source.log())?));
        let mut make = child::command("make")
            .arg(format!("--jobs={}", self.jobs))
            .arg("--directory")
            .arg(self.source.tree())
            .arg(format!("O={}", self.source.build(self.arch).display()))
            .arg(format!("LOCALVERSION={}", self.suffix))
            .args(["KBUILD_BUILD_USER=xtask", "KBUILD_BUILD_HOST=pinwatch"])
            .args(match self.arch {
                Arch::X86_64 => &["ARCH=x86_64"][..],
                Arch::Aarch64 => &["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"],
            })
            .args((self.compiler == Compiler::Clang).then_some("LLVM=1"))
            .args(targets)
            .env("LC_ALL", "C")
            .env_remove("MAKEFLAGS")
            .env_remove("CROSS_COMPILE")
            .env_remove("LLVM")
            .env_remove("KBUILD_OUTPUT")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start make")?;
        let counts = progress.map(|progress| Arc::clone(&progress.counts));
        let out = copy(make.stdout.take().context("no stdout")?, &log, counts);
        let err = copy(make.stderr.take().context("no stderr")?, &log, None);
        let waited = thread::scope(|scope| {
            let show = progress.map(|progress| scope.spawn(|| progress.show()));
            let waited = child::wait(&mut make, None);
            if let Some(progress) = progress {
                progress.stop();
            }
            drop(show);
            waited
        });
        for copy in [out, err] {
            let _ = copy.join();
        }
        match waited? {
            Waited::Exited(status) if status.success() => Ok(()),
            _ => bail!("{}", failure(&self.source.log())),
        }
    }
}

/// Copies lines to the log as they arrive, and counts what make did.
fn copy(
    from: impl io::Read + Send + 'static,
    log: &Arc<Mutex<File>>,
    counts: Option<Arc<Counts>>,
) -> thread::JoinHandle<()> {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let _ = writeln!(log.lock().expect("no writer panics"), "{line}");
            if let Some(counts) = &counts {
                counts.add(&line);
            }
        }
    })
}

/// What make has done so far.
#[derive(Default)]
struct Counts {
    compiled: AtomicUsize,
    step: Mutex<String>,
}

impl Counts {
    fn add(&self, line: &str) {
        if COMPILED.iter().any(|step| line.starts_with(step)) {
            self.compiled.fetch_add(1, Ordering::Relaxed);
        }
        let step = match NAMED.iter().any(|step| line.starts_with(step)) {
            true => line.split_whitespace().collect::<Vec<_>>().join(" "),
            false => String::new(),
        };
        *self.step.lock().expect("no writer panics") = step;
    }
}

struct Progress {
    what: String,
    extent: usize,
    started: Instant,
    counts: Arc<Counts>,
    ended: Mutex<bool>,
    end: std::sync::Condvar,
}

impl Progress {
    fn new(what: &str, extent: usize) -> Self {
        Self {
            what: what.to_owned(),
            extent,
            started: Instant::now(),
            counts: Arc::default(),
            ended: Mutex::new(false),
            end: std::sync::Condvar::new(),
        }
    }

    /// Prints until [`Self::stop`]: one line that changes on a terminal, a line now and then elsewhere.
    fn show(&self) {
        let terminal = io::stderr().is_terminal();
        let period = if terminal { ON_TERMINAL } else { IN_LOG };
        let mut ended = self.ended.lock().expect("no printer panics");
        while !*ended {
            if terminal {
                eprint!("\r\x1b[Kxtask: {}", self.text());
            } else {
                eprintln!("xtask: {}", self.text());
            }
            let waited = self.end.wait_timeout(ended, period);
            ended = waited.expect("no printer panics").0;
        }
        if terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn text(&self) -> String {
        let compiled = self.counts.compiled.load(Ordering::Relaxed);
        let step = self.counts.step.lock().expect("no writer panics");
        let step = if step.is_empty() {
            String::new()
        } else {
            format!(", {step}")
        };
        format!(
            "{}: {compiled} of at most {} files{step}, {} s",
            self.what,
            self.extent.max(compiled),
            self.started.elapsed().as_secs()
        )
    }

    fn stop(&self) {
        *self.ended.lock().expect("no printer panics") = true;
        self.end.notify_all();
    }

    /// Reports the result. Returns the number of compiled files.
    fn end(&self) -> usize {
        let compiled = self.counts.compiled.load(Ordering::Relaxed);
        eprintln!(
            "xtask: {}: compiled {compiled} files in {} s",
            self.what,
            self.started.elapsed().as_secs()
        );
        compiled
    }
}

/// The compiler's message, or the end of the log.
fn failure(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    format!(
        "make failed:\n{}\nThe whole log: {}",
        message(&text),
        log.display()
    )
}

fn message(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let error = |line: &str| line.contains(": error: ") || line.contains(": fatal error: ");
    let first = lines.iter().position(|line| error(line));
    let (from, to) = match first {
        // The line before names the function.
        Some(first) => (first.saturating_sub(1), (first + TAIL).min(lines.len())),
        None => (lines.len().saturating_sub(TAIL), lines.len()),
    };
    lines[from..to].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_message_is_shown() {
        let noise = "  CC      mm/x.o\n".repeat(30);
        let log = format!(
            "{noise}mm/gup.c: In function 'f':\nmm/gup.c:3:1: error: no\n{noise}make: *** [all] Error 2\n"
        );
        let message = message(&log);
        assert!(message.starts_with("mm/gup.c: In function"), "{message}");
        assert_eq!(message.lines().count(), TAIL + 1);
        let other = super::message("a\nb\n");
        assert_eq!(other, "a\nb");
    }

    #[test]
    fn files_are_counted_and_long_steps_named() {
        let counts = Counts::default();
        for line in [
            "  CC      mm/gup.o",
            "  AS      a.o",
            "  AR      mm/built-in.a",
        ] {
            counts.add(line);
        }
        assert_eq!(counts.compiled.load(Ordering::Relaxed), 2);
        counts.add("  BTF     .btf.vmlinux.bin.o");
        assert_eq!(*counts.step.lock().unwrap(), "BTF .btf.vmlinux.bin.o");
    }
}
