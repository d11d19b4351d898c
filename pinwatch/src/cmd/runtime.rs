//! Async runtime, stop signals and time limit of the commands.

#![forbid(unsafe_code)]

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::host::heap;
use crate::kernel::procfs;

/// Builds a runtime with one thread. One is enough, since the kernel does the counting.
pub fn one_thread() -> io::Result<Runtime> {
    heap::one_arena();
    Builder::new_current_thread().enable_all().build()
}

/// Waits until the limit has passed; forever without a limit.
pub async fn passed(limit: Option<Duration>) {
    match limit {
        Some(duration) => tokio::time::sleep(duration).await,
        None => pending().await,
    }
}

/// Signals that end a command: SIGTERM, SIGINT, and SIGHUP unless it is ignored.
pub struct StopSignals {
    end: EndSignals,
    hangups: Hangups,
}

/// Starts to catch the signals that end a command.
pub fn stop_signals() -> io::Result<StopSignals> {
    Ok(StopSignals {
        end: end_signals()?,
        hangups: hangups()?,
    })
}

impl StopSignals {
    /// Waits for the next signal.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.end.recv() => {}
            () = self.hangups.recv() => {}
        }
    }
}

/// Signals that end the daemon: SIGTERM and SIGINT.
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

/// Starts to catch the signals that end the daemon.
pub fn end_signals() -> io::Result<EndSignals> {
    Ok(EndSignals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    })
}

impl EndSignals {
    /// Waits for the next signal and returns its name.
    pub async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// SIGHUP; `None` if the parent made this process ignore it, as nohup(1) does.
pub struct Hangups(Option<Signal>);

/// Starts to catch SIGHUP, unless it is ignored.
pub fn hangups() -> io::Result<Hangups> {
    if procfs::ignores(libc::SIGHUP) {
        return Ok(Hangups(None));
    }
    signal(SignalKind::hangup()).map(Some).map(Hangups)
}

impl Hangups {
    /// Waits for the next SIGHUP; forever if it is ignored.
    pub async fn recv(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => pending().await,
        }
    }
}
