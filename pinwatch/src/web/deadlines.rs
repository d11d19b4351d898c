//! Time limits for clients that send a request slowly, or do not read their response. hyper has one limit for both an
//! idle connection and the headers of a request.

#![forbid(unsafe_code)]

use std::future::Future as _;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::connections::Connection;
use super::limits::Limits;

/// Connection with time limits: for the headers of each request, from their first byte on, and for each response, from
/// the first write that blocks until the client has the whole response.
pub struct Deadlines<S> {
    stream: S,
    limits: Limits,
    /// Runs from the first byte of a request until its headers are complete.
    slow: Option<Pin<Box<Sleep>>>,
    /// Runs since the first write that blocked; `None` before.
    late: Option<Pin<Box<Sleep>>>,
    /// Set for a response without an end. The limit then applies to each flushed part.
    endless: Arc<AtomicBool>,
    connection: Arc<Connection>,
}

impl<S> Deadlines<S> {
    /// Wraps a stream. Beyond a limit, reads and writes fail with [`ErrorKind::TimedOut`].
    pub fn new(
        stream: S,
        limits: Limits,
        endless: Arc<AtomicBool>,
        connection: Arc<Connection>,
    ) -> Self {
        Self {
            stream,
            limits,
            slow: None,
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
        let limit = self.limits.answering;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(limit)));
        if late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadlines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let has_more = buf.filled().len() > before;
        if !self.connection.is_waiting() {
            self.slow = None;
        } else if has_more || self.slow.is_some() {
            let limit = self.limits.headers_within;
            let slow = self.slow.get_or_insert_with(|| Box::pin(sleep(limit)));
            if slow.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(ErrorKind::TimedOut.into()));
            }
        }
        // The client sends its next request, so it has the whole response.
        if has_more {
            self.late = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadlines<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.slow = None;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.limited(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.slow = None;
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
