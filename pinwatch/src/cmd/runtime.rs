//! Async runtime, stop signals and time limit of the commands.

#![forbid(unsafe_code)]

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::host::heap;

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

/// Signals that end a command: SIGTERM, SIGINT and SIGHUP.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Starts to catch the signals that end a command.
pub fn stop_signals() -> io::Result<StopSignals> {
    Ok(StopSignals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    })
}

impl StopSignals {
    /// Waits for the next signal and returns its name.
    pub async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
