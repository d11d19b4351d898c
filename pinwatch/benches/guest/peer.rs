//! The tools that people use for this today, and pinwatch's own commands, run as
//! people run them.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::{Plan, Prefer};

use super::hooks::PIN_PATH;
use super::pins::{Pin, Pins};

/// A program with its arguments.
pub type Command = fn(&Facts) -> std::process::Command;

/// Under emulation compiling a script takes tens of seconds, of the host's time.
const PATIENCE: Duration = Duration::from_secs(300);
const TICK: Duration = Duration::from_millis(500);
/// Looks in a row at which a pin has to cost the same, and more than before.
const STEADY: u32 = 4;

/// A running tool.
pub struct Peer {
    child: Child,
}

/// Time from entry to return as a histogram by result, and what was migrated, of
/// long-term pins.
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

/// Time from entry to return as one histogram, of all pins.
pub fn funclatency_fentry(_facts: &Facts) -> std::process::Command {
    let mut funclatency = std::process::Command::new("funclatency-libbpf");
    funclatency.arg(PIN_PATH);
    funclatency
}

pub fn funclatency_kprobe(facts: &Facts) -> std::process::Command {
    let mut funclatency = funclatency_fentry(facts);
    funclatency.arg("--kprobes");
    funclatency
}

/// Every pin as a line, into nothing.
pub fn tail_fentry(_facts: &Facts) -> std::process::Command {
    shell("exec pinwatch tail --attach fentry >/dev/null")
}

/// Every pin into a file in memory.
pub fn record_fentry(_facts: &Facts) -> std::process::Command {
    shell("exec pinwatch record --attach fentry -o /tmp/overhead.pw")
}

fn shell(script: &str) -> std::process::Command {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script]);
    shell
}

/// What each tool says at its end, if it has seen pins and lost none.
const PROOFS: [&str; 4] = ["|@", "|*", "; none lost", ", 0 lost"];

impl Peer {
    /// Starts a tool and waits until its probes are attached. Neither tool says so
    /// reliably; the price of a pin does.
    pub fn start(mut command: std::process::Command, pins: &mut Pins) -> Result<Self> {
        let without = pins.price(Pin::One, || {})?.ticks;
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut peer = Self { child };
        let deadline = Instant::now() + PATIENCE;
        let (mut last, mut steady) = (0, 0);
        while steady < STEADY {
            if peer.child.try_wait()?.is_some() {
                bail!("{name} ended: {}", peer.output()?.trim());
            }
            ensure!(Instant::now() < deadline, "{name} attaches nothing");
            sleep(TICK);
            let with = pins.price(Pin::One, || {})?.ticks;
            let same = with.abs_diff(last) <= with / 100;
            let more = with > without + without / 50;
            steady = if same && more { steady + 1 } else { 0 };
            last = with;
        }
        Ok(peer)
    }

    /// Ends it as Ctrl-C does, and fails unless it shows what it has seen.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT)?;
        let said = self.output()?;
        ensure!(
            PROOFS.iter().any(|proof| said.contains(proof)),
            "nothing seen, or some lost: {}",
            said.trim()
        );
        Ok(())
    }

    /// All that it says until it ends.
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

impl Drop for Peer {
    fn drop(&mut self) {
        // It has ended, unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
