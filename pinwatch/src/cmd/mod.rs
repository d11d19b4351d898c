//! The commands: each puts the parts together and owns no logic of its own.

mod check;
mod compare;
mod log;
mod manual;
mod progress;
mod record;
mod replay;
mod report;
mod run;
mod tail;
mod top;
mod watch;

use std::future::pending;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Cli, Command};
use crate::load;
use crate::source::live::LiveError;

/// Exit status of a kernel that cannot be watched.
pub const UNUSABLE: u8 = 2;

/// Runs a command.
pub fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Replay(args) => replay::run(*args),
        Command::Report(args) => report::run(&args),
        Command::Compare(args) => Ok(compare::run(&args)),
        Command::Tail(args) => tail::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Load(args) => load::run(*args),
        Command::Manual(args) => manual::manual(&args),
    }
}

/// The exit status that an error stands for.
#[must_use]
pub fn status_of(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<LiveError>() {
        Some(LiveError::Unusable(_) | LiveError::Attach { .. } | LiveError::Load(_)) => {
            ExitCode::from(UNUSABLE)
        }
        Some(LiveError::NoMap(_) | LiveError::Map(..) | LiveError::Cpus(_)) | None => {
            ExitCode::FAILURE
        }
    }
}

/// One thread is enough: the kernel counts, the rest reads.
fn one_thread() -> io::Result<Runtime> {
    one_heap();
    Builder::new_current_thread().enable_all().build()
}

/// Attaching has a thread of its own, for which glibc would make a heap of its
/// own, and keep most of it.
fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: changes a setting of the allocator, before there are other threads.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Waits for so long; without a limit, for ever.
async fn passed(limit: Option<Duration>) {
    match limit {
        Some(duration) => tokio::time::sleep(duration).await,
        None => pending().await,
    }
}

/// The signals that end a command.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

fn stop_signals() -> io::Result<StopSignals> {
    Ok(StopSignals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    })
}

impl StopSignals {
    /// The name of the next one.
    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

/// Whether an error is only that nobody reads the output any more.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
