//! Child processes of xtask. They end with it, and an interrupt by the user ends every wait.
//!
//! Every program is started through [`command`].

use std::ffi::OsStr;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

const TICK: Duration = Duration::from_millis(10);
/// Time between two polls of something other than a child.
const POLL: Duration = Duration::from_millis(100);
/// How long a child may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// The user pressed Ctrl-C, or a signal arrived. Not a failure: no message explains it.
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

/// Makes SIGINT, SIGTERM and SIGHUP set a flag that all waits check. A second signal ends xtask at once.
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

/// Ends all waits, as Ctrl-C does.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Fails if the user has interrupted. For loops that wait for something other than a child.
pub fn check_interrupted() -> Result<()> {
    if interrupted() {
        Err(Interrupted.into())
    } else {
        Ok(())
    }
}

/// Polls until `f` returns a value. Fails after `patience`, naming `what`, and when the user interrupts.
pub fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut f: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        check_interrupted()?;
        if let Some(value) = f()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        sleep(POLL);
    }
}

/// A command that ends when xtask ends, however that happens. It has its own process group, so Ctrl-C
/// reaches it only through [`wait`], which then ends its children too.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).process_group(0);
    // SAFETY: between fork and exec this makes one prctl system call, and neither allocates nor locks.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
    }
    command
}

/// How a wait ended.
pub enum Waited {
    Exited(ExitStatus),
    TimedOut,
}

/// Waits for a child; ends it at the deadline, or when the user interrupts.
pub fn wait(child: &mut Child, deadline: Option<Instant>) -> Result<Waited> {
    wait_or(child, deadline, end)
}

/// Waits for a child; ends it with `end`.
pub fn wait_or(
    child: &mut Child,
    deadline: Option<Instant>,
    end: fn(&mut Child) -> Result<()>,
) -> Result<Waited> {
    loop {
        let ended = child.try_wait()?;
        if interrupted() {
            end(child)?;
            return Err(Interrupted.into());
        }
        if let Some(status) = ended {
            return Ok(Waited::Exited(status));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            end(child)?;
            return Ok(Waited::TimedOut);
        }
        sleep(TICK);
    }
}

/// Ends a child and its children: SIGTERM first, so that they can clean up, then SIGKILL.
pub fn end(child: &mut Child) -> Result<()> {
    let group = Pid::from_child(child);
    for signal in [Signal::TERM, Signal::KILL] {
        // Fails if the group has ended meanwhile.
        let _ = kill_process_group(group, signal);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(TICK);
        }
    }
    bail!("process {} does not end: SIGKILL had no effect", child.id())
}

/// Kills a child that has nothing to clean up and would only report the signal.
pub fn kill(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Copies bytes as they arrive, until the child closes its end. If `to` fails, the rest is discarded and
/// the child runs on.
pub fn relay(
    mut from: impl Read + Send + 'static,
    mut to: Box<dyn Write + Send>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        let mut open = true;
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    open = open
                        && to
                            .write_all(&buffer[..count])
                            .and_then(|()| to.flush())
                            .is_ok()
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })
}

/// Runs a command to its end. Fails unless it succeeds; the error names it. Its stdout goes to xtask's
/// stderr: xtask's stdout carries only results.
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

/// The stdout of a short command. If it fails, its stderr becomes the error.
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
