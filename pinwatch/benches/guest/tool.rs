//! Other tools for this purpose, and pinwatch's own commands, run as a user runs them.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::loaded_programs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::{Plan, Prefer};

use super::pins::{PIN_PATH, PinKind, Pins};

/// Makes the command line of a tool.
pub type ToolCommand = fn(&Facts) -> std::process::Command;

/// Compiling a script takes tens of seconds under emulation.
const PATIENCE: Duration = Duration::from_secs(300);
const TICK: Duration = Duration::from_millis(500);
/// Number of successive prices, or numbers of programs, that must be equal and higher than without the tool.
const STEADY: u32 = 4;

/// A running tool. Killed when dropped.
pub struct Tool {
    child: Child,
}

/// Long-term pins: histograms of the time from entry to return, by result, and migrated pages.
pub fn bpftrace_kprobe(facts: &Facts) -> std::process::Command {
    let longterm = Plan::new(facts, Prefer::Auto).globals.foll_longterm;
    bpftrace(&format!(
        "kprobe:{PIN_PATH} /arg5 & {longterm}/ {{ @start[tid] = nsecs; }} \
         kretprobe:{PIN_PATH} /@start[tid]/ {{ {END} }} {MIGRATIONS}"
    ))
}

pub fn bpftrace_kfunc(facts: &Facts) -> std::process::Command {
    let longterm = Plan::new(facts, Prefer::Auto).globals.foll_longterm;
    bpftrace(&format!(
        "kfunc:{PIN_PATH} /args.gup_flags & {longterm}/ {{ @start[tid] = nsecs; }} \
         kretfunc:{PIN_PATH} /@start[tid]/ {{ {END} }} {MIGRATIONS}"
    ))
}

const END: &str = "if ((int64)retval < 0) { @failed_ns = hist(nsecs - @start[tid]); } \
     else { @ok_ns = hist(nsecs - @start[tid]); } delete(@start[tid]);";
const MIGRATIONS: &str = "tracepoint:migrate:mm_migrate_pages /@start[tid]/ \
     { @succeeded = sum(args.succeeded); @failed = sum(args.failed); }";

fn bpftrace(script: &str) -> std::process::Command {
    let mut bpftrace = std::process::Command::new("bpftrace");
    bpftrace.args(["-e", script]);
    bpftrace
}

/// All pins: one histogram of the time from entry to return.
pub fn funclatency_fentry(_facts: &Facts) -> std::process::Command {
    // Debian's name for the program of libbpf-tools, and its own. bcc's program of that name has no `--kprobes`.
    let names = ["funclatency-libbpf", "funclatency"];
    let name = names.into_iter().find(|name| is_installed(name));
    let mut funclatency = std::process::Command::new(name.unwrap_or(names[0]));
    funclatency.arg(PIN_PATH);
    funclatency
}

pub fn funclatency_kprobe(facts: &Facts) -> std::process::Command {
    let mut funclatency = funclatency_fentry(facts);
    funclatency.arg("--kprobes");
    funclatency
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Prints every pin to /dev/null.
pub fn tail_fentry(_facts: &Facts) -> std::process::Command {
    shell("exec pinwatch tail --attach fentry >/dev/null")
}

/// Records every pin to a file in the current folder, which is in memory.
pub fn record_fentry(_facts: &Facts) -> std::process::Command {
    shell("exec pinwatch record --attach fentry -o overhead.pw")
}

fn shell(script: &str) -> std::process::Command {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script]);
    shell
}

/// Output of the tools at their end if they have seen pins and lost none.
const PROOFS: [&str; 4] = ["|@", "|*", "; none lost", ", 0 lost"];

impl Tool {
    /// Starts a tool and waits until its probes are attached. No tool reports that reliably. If the clock counts
    /// instructions: until the price of a pin is higher and steady. Else until the kernel has more programs, and
    /// their number is steady.
    pub fn start(mut command: std::process::Command, pins: &mut Pins) -> Result<Self> {
        let without = level(pins)?;
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}: is it installed?"))?;
        let mut tool = Self { child };
        let deadline = Instant::now() + PATIENCE;
        let (mut last, mut steady) = (0, 0);
        while steady < STEADY {
            if tool.child.try_wait()?.is_some() {
                bail!("{name} ended: {}", tool.output()?.trim());
            }
            ensure!(
                Instant::now() < deadline,
                "{name} has attached nothing after {} s",
                PATIENCE.as_secs()
            );
            sleep(TICK);
            let with = level(pins)?;
            let [small, margin] = if pins.are_counted() {
                [with / 100, without / 50]
            } else {
                [0, 0]
            };
            let same = with.abs_diff(last) <= small;
            let more = with > without + margin;
            steady = if same && more { steady + 1 } else { 0 };
            last = with;
        }
        Ok(tool)
    }

    /// Ends the tool as Ctrl-C does. Fails unless its output shows pins and no losses.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT)?;
        let said = self.output()?;
        ensure!(
            PROOFS.iter().any(|proof| said.contains(proof)),
            "the tool saw no pins or lost some: {}",
            said.trim()
        );
        Ok(())
    }

    /// Reads the whole output of the tool, until it ends.
    fn output(&mut self) -> Result<String> {
        let mut said = String::new();
        let mut pipe = self.child.stdout.take().context("no stdout")?;
        pipe.read_to_string(&mut said)?;
        let mut pipe = self.child.stderr.take().context("no stderr")?;
        pipe.read_to_string(&mut said)?;
        self.child.wait()?;
        Ok(said)
    }
}

/// What a tool raises when it attaches: the price of a pin, or the number of BPF programs.
fn level(pins: &mut Pins) -> Result<u64> {
    if pins.are_counted() {
        return Ok(pins.price(PinKind::One, || {})?.ticks);
    }
    Ok(loaded_programs().flatten().count() as u64)
}

impl Drop for Tool {
    fn drop(&mut self) {
        // It is still running only after an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
