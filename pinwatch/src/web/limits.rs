//! Limits on the resources that clients can use; docs/web.md lists them.

#![forbid(unsafe_code)]

use std::time::Duration;

use axum::http::header::{HeaderName, RETRY_AFTER};

/// Limits on the resources that clients can use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections. Beyond it, one that waits for a request is closed.
    pub connections: usize,
    /// Open connections of one address.
    pub connections_per_address: usize,
    /// Responses that are made or sent at the same time. Further requests get 503.
    pub answers: usize,
    /// Responses to one address at the same time.
    pub answers_per_address: usize,
    /// Time for a TLS handshake, and for an idle connection.
    pub asking: Duration,
    /// Time for the headers of a request, from their first byte on.
    pub headers_within: Duration,
    /// Time until a response begins; then again, from the first write that blocks until the client has
    /// the whole response.
    pub answering: Duration,
    /// Size of a request's line and headers, in bytes.
    pub headers: usize,
    /// Size of a request's body, in bytes.
    pub body: usize,
}

impl Limits {
    /// Limits of the daemon, as in docs/web.md. No route takes a body.
    pub const DEFAULT: Self = Self {
        connections: 256,
        connections_per_address: 224,
        answers: 64,
        answers_per_address: 56,
        asking: Duration::from_secs(30),
        headers_within: Duration::from_secs(1),
        answering: Duration::from_secs(30),
        headers: 16 << 10,
        body: 0,
    };
}

/// Bytes of requests that a connection holds: those of pipelined requests wait in the kernel.
pub const BUFFER: usize = 32 << 10;
/// Maximum number of headers in a request.
pub const HEADERS: usize = 64;
/// Header of an answer that asks the client to come back.
pub const RETRY: [(HeaderName, &str); 1] = [(RETRY_AFTER, "1")];
