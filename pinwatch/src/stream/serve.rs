//! The daemon's socket: each connection is a follower of its own, in a task of
//! its own. One that does not read waits alone.

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

/// Where a daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/pinwatch/pinwatch.sock";

/// How long a connection may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_secs(1);

/// A socket that only root can connect to; removed when dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens, with the place of a daemon that is gone taken over.
    pub fn bind(path: &Path) -> Result<Self> {
        match StdStream::connect(path) {
            Ok(_) => bail!("another pinwatch listens on {}", path.display()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)
                .with_context(|| format!("cannot replace {}", path.display()))?,
            Err(_) => {}
        }
        let listener = bind_private(path);
        Ok(Self {
            listener: listener.with_context(|| format!("cannot listen on {}", path.display()))?,
            path: path.to_owned(),
        })
    }

    /// Serves followers for ever.
    pub async fn serve<F>(&self, hub: Arc<Hub>, state: F) -> Infallible
    where
        F: Fn() -> State + Clone + Send + 'static,
    {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("cannot take a follower: {error}");
                    // Mostly too many descriptors: others have to close theirs first.
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (hub, state) = (Arc::clone(&hub), state.clone());
            tokio::spawn(async move {
                if let Err(error) = serve_one(stream, hub, state).await {
                    tracing::debug!("a follower: {error:#}");
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
    // So that the socket never has another mode than 0600.
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
    let request = tokio::time::timeout(PATIENCE, frames.next()).await?;
    let filter: Filter = serde_json::from_slice(&request.context("it said nothing")??)?;
    let (sink, mut updates) = feed();
    tokio::spawn(follow(hub, state, filter, sink));
    let mut finishing = false;
    loop {
        tokio::select! {
            update = updates.next() => {
                let Some(update) = update else { return Ok(()) };
                frames.send(wire::encode(&update)?).await?;
            }
            // It has nothing more to say: the end of its side asks for the rest.
            _ = frames.next(), if !finishing => {
                finishing = true;
                updates.finish();
            }
        }
    }
}
