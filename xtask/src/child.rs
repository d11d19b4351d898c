//! Children of xtask: they die with it, and a wait for one ends when the user interrupts.
//!
//! Every program is started through [`command`]. Nothing here knows what the programs are for.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The user pressed Ctrl-C, or somebody sent a signal: an ending, not a failure to explain.
#[derive(Debug)]
pub struct Interrupted;

impl Interrupted {
    pub const STATUS: u8 = 130;
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Lets SIGINT, SIGTERM and SIGHUP set a flag that all waits look at; a second one ends at once.
pub fn catch_signals() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let status = i32::from(Interrupted::STATUS);
        let flag = Arc::clone(&INTERRUPTED);
        signal_hook::flag::register_conditional_shutdown(signal, status, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, flag)?;
    }
    Ok(())
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Fails if the user has interrupted; for loops that wait on something else than a child.
pub fn check_interrupted() -> Result<()> {
    if interrupted() {
        Err(Interrupted.into())
    } else {
        Ok(())
    }
}

/// A command that is killed when xtask dies, in whatever way that happens.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    // SAFETY: between fork and exec this makes one prctl system call, and neither allocates nor locks.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    command
}

/// How a wait ended.
pub enum Waited {
    Exited(ExitStatus),
    TimedOut,
}

/// Waits for a child; kills it at the deadline or when the user interrupts.
pub fn wait(child: &mut Child, deadline: Option<Instant>) -> Result<Waited> {
    loop {
        let ended = child.try_wait()?;
        if interrupted() {
            kill(child)?;
            return Err(Interrupted.into());
        }
        if let Some(status) = ended {
            return Ok(Waited::Exited(status));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            kill(child)?;
            return Ok(Waited::TimedOut);
        }
        sleep(Duration::from_millis(10));
    }
}

pub fn kill(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Runs a command to its end and fails, naming it, unless it succeeds. Its stdout goes to our
/// stderr: xtask's own stdout belongs to what the user asked for.
pub fn run(command: &mut Command) -> Result<()> {
    let name = name(command);
    let mut child = command
        .stdout(std::io::stderr())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    match wait(&mut child, None)? {
        Waited::Exited(status) if status.success() => Ok(()),
        Waited::Exited(status) => bail!("{name} failed ({status})"),
        Waited::TimedOut => unreachable!("no deadline was given"),
    }
}

/// What a short-lived command prints on stdout; its stderr becomes the error.
pub fn output(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output = command
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, why.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
