//! Time limit for clients that do not read their response. hyper limits only the time in which a client
//! sends a request.

#![forbid(unsafe_code)]

use std::future::Future as _;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::connections::Connection;

/// Connection with a time limit for each response, from the first write that blocks until the client has
/// the whole response.
pub struct WriteTimeout<S> {
    stream: S,
    limit: Duration,
    /// Runs since the first write that blocked; `None` before.
    late: Option<Pin<Box<Sleep>>>,
    /// Set for a response without an end. The limit then applies to each flushed part.
    endless: Arc<AtomicBool>,
    connection: Arc<Connection>,
}

impl<S> WriteTimeout<S> {
    /// Wraps a stream. A write that exceeds `limit` fails with [`ErrorKind::TimedOut`].
    pub fn new(
        stream: S,
        limit: Duration,
        endless: Arc<AtomicBool>,
        connection: Arc<Connection>,
    ) -> Self {
        Self {
            stream,
            limit,
            late: None,
            endless,
            connection,
        }
    }

    /// Passes the result of a write on, or an error once the limit is exceeded.
    fn limited<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() && self.late.is_none() {
            return written;
        }
        let limit = self.limit;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(limit)));
        if late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        // The client sends its next request, so it has the whole response.
        if buf.filled().len() > before {
            self.late = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.limited(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.limited(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.connection.flushed();
        }
        if flushed.is_ready() && self.endless.load(Ordering::Relaxed) {
            self.late = None;
        }
        self.limited(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.limited(cx, shut)
    }
}
