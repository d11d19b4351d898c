//! What commands run on: a runtime, signals, a limit of time.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::host::heap;

/// One thread is enough: the kernel counts, the rest reads.
pub fn one_thread() -> io::Result<Runtime> {
    heap::one_arena();
    Builder::new_current_thread().enable_all().build()
}

/// Waits for so long; without a limit, for ever.
pub async fn passed(limit: Option<Duration>) {
    match limit {
        Some(duration) => tokio::time::sleep(duration).await,
        None => pending().await,
    }
}

/// The signals that end a command.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

pub fn stop_signals() -> io::Result<StopSignals> {
    Ok(StopSignals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    })
}

impl StopSignals {
    /// The name of the next one.
    pub async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
