//! Accepts connections and serves a router on them, within [`Limits`].

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use axum::{Router, middleware};
use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use super::auth::{Gate, gate};
use super::reload::{Current, Settings};
use super::write_timeout::WriteTimeout;

/// Limits on the resources that clients can use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections. Further ones wait until one ends.
    pub connections: usize,
    /// Time for a TLS handshake, for the headers of a request, and for an idle connection.
    pub asking: Duration,
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
        connections: 64,
        asking: Duration::from_secs(30),
        answering: Duration::from_secs(30),
        headers: 16 << 10,
        body: 0,
    };
}

/// Maximum number of headers in a request.
const HEADERS: usize = 64;
/// Wait after a connection that could not be accepted.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens on all addresses.
///
/// # Errors
///
/// If one of the addresses cannot be bound; the text names it.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.with_context(|| format!("cannot listen on {address}"))?);
    }
    Ok(listeners)
}

/// Warning about addresses that other machines can reach without TLS; `None` if there are none.
#[must_use]
pub fn exposed(addresses: &[SocketAddr], settings: &Settings) -> Option<String> {
    let wide = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
    let wide: Vec<_> = addresses
        .iter()
        .filter(wide)
        .map(SocketAddr::to_string)
        .collect();
    if wide.is_empty() || settings.tls.is_some() {
        return None;
    }
    let risk = if settings.users.is_empty() {
        "anyone who can reach it can read which processes pin"
    } else {
        "passwords and metrics can be read on the network"
    };
    Some(format!(
        "listening on {} without TLS: {risk}; --web.config.file sets up TLS and passwords",
        wide.join(" and ")
    ))
}

/// Serves the router on all listeners; never returns `Ok`.
///
/// # Errors
///
/// If there are no random numbers for the authentication, or no listeners.
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    current: Arc<Current>,
    limits: Limits,
) -> Result<Infallible> {
    let router = guarded(router, Arc::clone(&current), limits)?;
    let permits = Arc::new(Semaphore::new(limits.connections));
    let server = Server {
        router,
        current,
        limits,
        permits,
    };
    join_all(
        listeners
            .into_iter()
            .map(|listener| server.accept(listener)),
    )
    .await;
    anyhow::bail!("there is no address to serve HTTP on: set --web.listen-address")
}

/// The router behind authentication and limits.
///
/// # Errors
///
/// If there are no random numbers for the authentication.
pub fn guarded(router: Router, current: Arc<Current>, limits: Limits) -> Result<Router> {
    let authentication = Arc::new(Gate::new(current)?);
    Ok(router
        .layer(CompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(limits.body))
        .layer(middleware::from_fn_with_state(authentication, gate))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            limits.answering,
        )))
}

struct Server {
    router: Router,
    current: Arc<Current>,
    limits: Limits,
    /// One permit per connection that may still be opened.
    permits: Arc<Semaphore>,
}

impl Server {
    /// Accepts connections forever, each in a task of its own.
    async fn accept(&self, listener: TcpListener) -> Infallible {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(
                        "cannot accept an HTTP connection: {error}; trying again in a second"
                    );
                    // Mostly for lack of file descriptors: another connection has to close first.
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let (router, limits) = (self.router.clone(), self.limits);
            let tls = self.current.get().tls.clone().map(TlsAcceptor::from);
            tokio::spawn(async move {
                if let Err(error) = serve_connection(stream, tls, router, limits).await {
                    tracing::debug!("an HTTP connection failed: {error:#}");
                }
                drop(permit);
            });
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
) -> Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => {
            let stream = timeout(limits.asking, tls.accept(stream)).await??;
            serve_http1(stream, router, limits).await
        }
        None => serve_http1(stream, router, limits).await,
    }
}

/// Serves HTTP/1.1 on a connection until either side closes it.
///
/// # Errors
///
/// If the client violates HTTP, or takes longer than a limit.
pub async fn serve_http1<S>(stream: S, router: Router, limits: Limits) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let endless = Arc::new(AtomicBool::new(false));
    let stream = WriteTimeout::new(stream, limits.answering, Arc::clone(&endless));
    let answer = service_fn(move |request: Request<Incoming>| {
        let (router, endless) = (router.clone(), Arc::clone(&endless));
        async move {
            let response = router.oneshot(request).await?;
            endless.store(is_endless(&response), Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.asking)
        .max_headers(HEADERS)
        .max_header_size(limits.headers)
        .serve_connection(TokioIo::new(stream), answer)
        .await?;
    Ok(())
}

/// Whether a response is a stream of events, which has no end.
fn is_endless(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_addresses_beyond_this_machine() {
        let warning = |addresses: &[&str], users: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            let users = users.iter().map(|user| ((*user).to_owned(), String::new()));
            let settings = Settings {
                users: users.collect(),
                ..Settings::default()
            };
            exposed(&addresses, &settings)
        };
        for own in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(warning(&[own], &[]), None, "{own}");
        }
        for wide in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[2001:db8::1]:1"] {
            let text = warning(&["127.0.0.1:1", wide], &[]).unwrap();
            assert!(
                text.contains(wide) && text.contains("without TLS"),
                "{text}"
            );
            assert!(!text.contains("127.0.0.1"), "{text}");
        }
        assert!(
            warning(&["0.0.0.0:1"], &["alice"])
                .unwrap()
                .contains("passwords and")
        );
    }
}
