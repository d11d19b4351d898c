//! Standard output whose reader may leave: `pinwatch tail | head`. That is no error, unlike a closed pipe anywhere
//! else.

#![forbid(unsafe_code)]

use std::future::pending;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use thiserror::Error;
use tokio::sync::oneshot;

/// The reader of standard output has closed it.
#[derive(Debug, Error)]
#[error("the reader of standard output has closed it")]
pub struct ReaderGone;

/// A writer to standard output. Marks `EPIPE` as [`ReaderGone`].
pub struct Stdout<W>(W);

/// Standard output, locked.
pub fn stdout() -> Stdout<io::StdoutLock<'static>> {
    Stdout(io::stdout().lock())
}

impl<W> Stdout<W> {
    /// Wraps a writer that writes to standard output.
    pub fn through(writer: W) -> Self {
        Self(writer)
    }
}

impl<W: Write> Write for Stdout<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(marked)
    }
}

fn marked(error: io::Error) -> io::Error {
    match error.kind() {
        kind @ ErrorKind::BrokenPipe => io::Error::new(kind, ReaderGone),
        _ => error,
    }
}

/// Waits until the reader of standard output closes it; forever if it is no pipe or socket. Without this a command
/// that has nothing to write would not notice. A thread waits, until the process ends: epoll(7) refuses files.
pub async fn reader_gone() {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let own = io::stdout();
        // The kernel always reports POLLERR.
        let mut watched = [PollFd::new(own.as_fd(), PollFlags::empty())];
        while poll(&mut watched, PollTimeout::NONE) == Err(Errno::EINTR) {}
        if watched[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLERR))
        {
            // Without a receiver the command ends already.
            let _ = tell.send(());
        }
    });
    if told.await.is_err() {
        pending().await
    }
}
