//! The daemon's Unix socket. Each connection is a follower in a task of its own, so that a client that
//! does not read delays only itself.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
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

/// Maximum size of a filter, in bytes: thousands of process ids.
const MAX_REQUEST: usize = 64 << 10;

/// Pause after a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Unix socket with mode 0600: only root and the daemon's user can connect. Dropping it removes the file,
/// unless another file has taken the path meanwhile.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Identity of the file, as in [`identity`].
    file: (u64, u64),
}

impl Socket {
    /// Listens on `path`. Replaces the socket of a daemon that has exited, and no other file.
    ///
    /// # Errors
    ///
    /// If the path is not a socket, if a process listens on it, or if it cannot be bound.
    pub fn bind(path: &Path) -> Result<Self> {
        let shown = path.display();
        remove_unused(path)?;
        let cannot = || format!("cannot listen on {shown} (--socket sets the path)");
        let listener = bind_private(path).with_context(cannot)?;
        let file = identity(path).with_context(cannot)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file,
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
                if let Err(error) = serve_follower(stream, hub, state).await {
                    tracing::debug!("the connection to a follower ended: {error:#}");
                }
            });
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of a file. Does not follow symbolic links.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// Removes the socket of a daemon that has exited, if the path is one.
fn remove_unused(path: &Path) -> Result<()> {
    let shown = path.display();
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.file_type().is_socket() {
        bail!("{shown} exists and is not a socket; set another path by --socket");
    }
    match connect(path) {
        // EAGAIN: so many clients wait that the queue of the listener is full.
        Ok(()) | Err(Errno::EAGAIN) => {
            bail!("another process listens on {shown}; stop it, or set another path by --socket")
        }
        Err(Errno::ECONNREFUSED) => fs::remove_file(path)
            .with_context(|| format!("cannot remove the unused socket {shown}")),
        // Not a stream socket, or no permission: bind(2) reports that the path is in use.
        Err(_) => Ok(()),
    }
}

/// Connects and closes again. Does not wait for a listener that hangs.
fn connect(path: &Path) -> Result<(), Errno> {
    let kind = SockType::Stream;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let client = socket::socket(AddressFamily::Unix, kind, flags, None)?;
    socket::connect(client.as_raw_fd(), &UnixAddr::new(path)?)
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

/// Serves one follower until either side closes the connection.
///
/// # Errors
///
/// If the client sends no valid filter, or if it does not read.
pub async fn serve_follower<F>(stream: UnixStream, hub: Arc<Hub>, state: F) -> Result<()>
where
    F: Fn() -> State + Send + 'static,
{
    let mut frames = Framed::new(stream, wire::codec());
    frames.codec_mut().set_max_frame_length(MAX_REQUEST);
    let request = tokio::time::timeout(REQUEST_TIMEOUT, frames.next()).await?;
    let request = request.context("the client closed the connection before it sent its filter")?;
    let filter = request
        .context("the filter has more than 64 KiB; give fewer processes or names")
        .and_then(|request| filter(&request));
    frames.codec_mut().set_max_frame_length(wire::MAX_FRAME);
    let filter = match filter {
        Ok(filter) => filter,
        Err(error) => {
            let refused = Err(error);
            frames.send(wire::encode(&refused)?).await?;
            return refused.map(drop);
        }
    };
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

/// Filter that a client sent.
fn filter(request: &[u8]) -> Result<Filter> {
    let filter: Filter = serde_json::from_slice(request)
        .context("the filter cannot be read; use the daemon's version of pinwatch")?;
    filter.check().map_err(Error::msg)?;
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as Other;

    use bytes::Bytes;

    use super::*;
    use crate::stream::feed::Update;

    /// The error of a bind that is refused.
    fn refusal(path: &Path) -> String {
        format!("{:#}", Socket::bind(path).err().expect("refused"))
    }

    #[tokio::test]
    async fn only_an_unused_socket_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        fs::write(&path, "precious").expect("written");
        assert!(refusal(&path).contains("is not a socket"));
        assert_eq!(fs::read(&path).expect("kept"), b"precious");
        fs::remove_file(&path).expect("removed");

        std::os::unix::fs::symlink(folder.path().join("b"), &path).expect("linked");
        assert!(refusal(&path).contains("is not a socket"));
        fs::remove_file(&path).expect("removed");

        // A listener whose queue is full does not answer.
        let other = Other::bind(&path).expect("bound");
        socket::listen(&other, socket::Backlog::new(0).expect("0")).expect("a queue of one");
        while connect(&path).is_ok() {}
        assert_eq!(connect(&path), Err(Errno::EAGAIN));
        assert!(refusal(&path).contains("another process listens"));
        drop(other);

        // The other process has exited and left its socket.
        let socket = Socket::bind(&path).expect("replaced");
        assert!(refusal(&path).contains("another process listens"));
        drop(socket);
        assert!(!path.exists(), "removed at the end");
    }

    /// The daemon's first answer to a filter.
    async fn answer(filter: &[u8]) -> Result<Update> {
        let (client, server) = UnixStream::pair().expect("two sockets");
        let (hub, mut syncs) = Hub::new();
        tokio::spawn(async move {
            while let Some(done) = syncs.recv().await {
                let _ = done.send(());
            }
        });
        let state = || State::empty("6.12", "folios");
        tokio::spawn(serve_follower(server, hub, state));
        let mut frames = Framed::new(client, wire::codec());
        frames.send(Bytes::copy_from_slice(filter)).await?;
        let frame = frames.next().await.context("closed without an answer")??;
        wire::decode(&frame)
    }

    #[tokio::test]
    async fn a_filter_is_served_or_refused_with_a_reason() {
        let named = |length| Filter {
            comm: vec!["x".repeat(length)],
            ..Filter::default()
        };
        let sent = |filter: &Filter| serde_json::to_vec(filter).expect("JSON");
        let served = answer(&sent(&named(15))).await;
        assert!(matches!(served, Ok(Update::Start(_))), "{served:?}");
        let processes = Filter {
            pid: (1..20_000).collect(),
            ..Filter::default()
        };
        for (filter, reason) in [
            (sent(&named(17)), "this name has 17"),
            (b"{".to_vec(), "the filter cannot be read"),
            (sent(&processes), "more than 64 KiB"),
        ] {
            let error = answer(&filter).await.expect_err("refused").to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[tokio::test]
    async fn the_end_leaves_the_socket_of_another_daemon() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        let first = Socket::bind(&path).expect("bound");
        fs::remove_file(&path).expect("removed");
        let second = Socket::bind(&path).expect("bound");
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
