//! What the daemon and systemd tell each other: sockets that are already bound,
//! readiness, signs of life, and whether the log goes to the journal. Each does
//! nothing where systemd is not what started it.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _};
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::time::interval;

/// The sockets of `pinwatch.socket`, if there are any.
pub fn listeners() -> Result<Vec<TcpListener>> {
    let inherited = sd_notify::listen_fds().context("socket activation")?;
    let listeners = inherited.map(|fd| {
        // SAFETY: systemd opened it for this process; nobody else here knows it.
        let listener = unsafe { std::net::TcpListener::from_raw_fd(fd) };
        let address = listener.local_addr();
        let address = address.context("an inherited socket is not a TCP socket")?;
        listener.set_nonblocking(true)?;
        tracing::info!("{address}, inherited, in place of --web.listen-address");
        Ok(TcpListener::from_std(listener)?)
    });
    listeners.collect()
}

/// Everything is attached.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("watching")]);
}

/// It ends, as it was asked to.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("detaching")]);
}

/// Signs of life from the loop that serves everything, twice in the time after
/// which one is missed; for ever.
pub async fn watchdog() -> Result<()> {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    let mut beat = interval(patience / 2);
    loop {
        beat.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd is not told {state:?}: {error}");
    }
}

/// Whether stderr leads to the journal: systemd names the stream that it opened.
#[must_use]
pub fn logs_to_journal() -> bool {
    let stderr = || -> io::Result<String> {
        let stderr = std::fs::File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let meta = stderr.metadata()?;
        Ok(format!("{}:{}", meta.dev(), meta.ino()))
    };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stderr().is_ok_and(|own| own == stream))
}
