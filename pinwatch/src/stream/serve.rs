//! The daemon's Unix socket. Each connection is a follower in a task of its own, so that a client that
//! does not read delays only itself.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::stat::{Mode, umask};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::Framed;

use super::feed::feed;
use super::follow::follow;
use super::hub::Hub;
use super::wire;
use crate::model::filter::Filter;
use crate::model::state::State;

/// Default path of the daemon's socket.
pub const DEFAULT_SOCKET: &str = "/run/pinwatch/pinwatch.sock";

/// Time limit for a client to send its filter.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Unix socket with mode 0600: only root and the daemon's user can connect. Dropping it removes the file.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens on `path`. Replaces the socket file of a daemon that has exited.
    pub fn bind(path: &Path) -> Result<Self> {
        let shown = path.display();
        match StdStream::connect(path) {
            Ok(_) => {
                bail!(
                    "another pinwatch listens on {shown}; stop it, or set another path by --socket"
                )
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)
                .with_context(|| format!("cannot remove the unused socket file {shown}"))?,
            Err(_) => {}
        }
        let listener = bind_private(path);
        Ok(Self {
            listener: listener
                .with_context(|| format!("cannot listen on {shown} (--socket sets the path)"))?,
            path: path.to_owned(),
        })
    }

    /// Serves followers until the future is dropped.
    pub async fn serve<F>(&self, hub: Arc<Hub>, state: F) -> Infallible
    where
        F: Fn() -> State + Clone + Send + 'static,
    {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(
                        "a follower cannot connect: accept(2) on {} failed: {error}",
                        self.path.display()
                    );
                    // Mostly for want of file descriptors: other connections must close first.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (hub, state) = (Arc::clone(&hub), state.clone());
            tokio::spawn(async move {
                if let Err(error) = serve_one(stream, hub, state).await {
                    tracing::debug!("the connection to a follower ended: {error:#}");
                }
            });
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)?;
    }
    // chmod(2) after bind(2) would leave a moment in which others can connect.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

async fn serve_one<F>(stream: UnixStream, hub: Arc<Hub>, state: F) -> Result<()>
where
    F: Fn() -> State + Send + 'static,
{
    let mut frames = Framed::new(stream, wire::codec());
    let request = tokio::time::timeout(REQUEST_TIMEOUT, frames.next()).await?;
    let request =
        request.context("the client closed the connection before it sent its filter")??;
    let filter: Filter =
        serde_json::from_slice(&request).context("the client's filter cannot be read")?;
    let (sink, mut updates) = feed();
    tokio::spawn(follow(hub, state, filter, sink));
    let mut finishing = false;
    loop {
        tokio::select! {
            update = updates.next() => {
                let Some(update) = update else { return Ok(()) };
                frames.send(wire::encode(&update)?).await?;
            }
            // The client shuts down its side to ask for the remaining updates.
            _ = frames.next(), if !finishing => {
                finishing = true;
                updates.finish();
            }
        }
    }
}
