//! systemd's protocols: socket activation, readiness, watchdog, and the journal's stream.
//!
//! Without systemd as the parent, each function does nothing.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _};
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::time::interval;

/// TCP sockets inherited from `pinwatch.socket`; empty without socket activation.
pub fn listeners() -> Result<Vec<TcpListener>> {
    let inherited =
        sd_notify::listen_fds().context("cannot take over the sockets of pinwatch.socket")?;
    let listeners = inherited.map(|fd| {
        // SAFETY: systemd opened the descriptor for this process, and nothing else here owns it.
        let listener = unsafe { std::net::TcpListener::from_raw_fd(fd) };
        let address = listener.local_addr();
        let address = address.context(
            "an inherited socket is not a TCP socket: use ListenStream=HOST:PORT in pinwatch.socket",
        )?;
        listener.set_nonblocking(true)?;
        tracing::info!("pinwatch listens on {address} from pinwatch.socket; --web.listen-address is ignored");
        Ok(TcpListener::from_std(listener)?)
    });
    listeners.collect()
}

/// Reports to systemd that every hook is attached.
pub fn ready() {
    notify(&[NotifyState::Ready, NotifyState::Status("watching")]);
}

/// Reports to systemd that the daemon stops on request.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("detaching")]);
}

/// Pings systemd's watchdog twice per `WatchdogSec=`. Never returns.
///
/// Runs on the runtime that serves everything else, so that pings stop when that runtime hangs.
pub async fn watchdog() -> Result<()> {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    let mut ticks = interval(limit / 2);
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("pinwatch could not notify systemd of {state:?}: {error}");
    }
}

/// Whether stderr is the journal: systemd puts its device and inode into `JOURNAL_STREAM`.
#[must_use]
pub fn logs_to_journal() -> bool {
    let stderr = || -> io::Result<String> {
        let stderr = std::fs::File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let meta = stderr.metadata()?;
        Ok(format!("{}:{}", meta.dev(), meta.ino()))
    };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stderr().is_ok_and(|own| own == stream))
}
