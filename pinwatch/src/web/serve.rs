//! Accepts connections and serves a router on them, within [`Limits`].

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, middleware};
use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use super::auth::{Gate, gate};
use super::connections::{Connection, Connections, Noted};
use super::deadlines::Deadlines;
use super::host::Hosts;
use super::limits::{BUFFER, HEADERS, Limits, RETRY};
use super::reload::{Current, Settings};

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
    hosts: Hosts,
) -> Result<Infallible> {
    let router = guarded(router, Arc::clone(&current), limits)?;
    let server = Server {
        router,
        current,
        limits,
        hosts,
        connections: Arc::new(Connections::new(limits)),
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
fn guarded(router: Router, current: Arc<Current>, limits: Limits) -> Result<Router> {
    let authentication = Arc::new(Gate::new(current)?);
    // Prometheus asks for compression at each scrape. The default level takes several times as many instructions as
    // reading and encoding all metrics do.
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest);
    Ok(router
        .layer(compression)
        .layer(RequestBodyLimitLayer::new(limits.body))
        .layer(middleware::from_fn_with_state(authentication, gate))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            limits.answering,
        )))
}

/// Serves the router on one stream until either side closes it, as [`serve`] does for a loopback connection.
///
/// # Errors
///
/// If there are no random numbers for the authentication, if the client violates HTTP, or if it takes longer than
/// a limit.
pub async fn serve_stream<S>(
    stream: S,
    router: Router,
    current: Arc<Current>,
    limits: Limits,
    hosts: Hosts,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connections = Arc::new(Connections::new(limits));
    let connection = connections.admit(Ipv4Addr::LOCALHOST.into());
    let service = Service {
        router: guarded(router, current, limits)?,
        hosts: Some(hosts),
        limits,
        connection: Arc::new(connection.context("there is no room for a connection")?),
    };
    service.serve_http1(stream).await
}

struct Server {
    router: Router,
    current: Arc<Current>,
    limits: Limits,
    hosts: Hosts,
    connections: Arc<Connections>,
}

impl Server {
    /// Accepts connections forever, each in a task of its own.
    async fn accept(&self, listener: TcpListener) -> Infallible {
        loop {
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(
                        "cannot accept an HTTP connection: {error}; trying again in a second"
                    );
                    // Mostly for lack of file descriptors: another connection has to close first.
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(connection) = self.connections.admit(client.ip()) else {
                continue;
            };
            let tls = self.current.get().tls.clone().map(TlsAcceptor::from);
            let service = Service {
                router: self.router.clone(),
                // With TLS, the certificate has told the client whom it talks to.
                hosts: (tls.is_none() && is_loopback(&stream)).then(|| self.hosts.clone()),
                limits: self.limits,
                connection: Arc::new(connection),
            };
            tokio::spawn(async move {
                let connection = Arc::clone(&service.connection);
                tokio::select! {
                    served = service.serve(stream, tls) => if let Err(error) = served {
                        tracing::debug!("an HTTP connection failed: {error:#}");
                    },
                    () = connection.gives_way() => {}
                }
            });
        }
    }
}

/// Whether a client has connected to a loopback address.
fn is_loopback(stream: &TcpStream) -> bool {
    let own = stream.local_addr();
    own.is_ok_and(|own| own.ip().to_canonical().is_loopback())
}

/// The service of one connection.
#[derive(Clone)]
struct Service {
    router: Router,
    /// Names that `Host` may have; `None` for any.
    hosts: Option<Hosts>,
    limits: Limits,
    connection: Arc<Connection>,
}

impl Service {
    /// Serves a connection until either side closes it.
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) -> Result<()> {
        stream.set_nodelay(true)?;
        match tls {
            Some(tls) => {
                let stream = timeout(self.limits.asking, tls.accept(stream)).await??;
                self.serve_http1(stream).await
            }
            None => self.serve_http1(stream).await,
        }
    }

    async fn serve_http1<S>(self, stream: S) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.limits;
        let endless = Arc::new(AtomicBool::new(false));
        let stream = Deadlines::new(
            stream,
            limits,
            Arc::clone(&endless),
            Arc::clone(&self.connection),
        );
        let answer = service_fn(move |request: Request<Incoming>| {
            let (service, endless) = (self.clone(), Arc::clone(&endless));
            async move {
                let connection = Arc::clone(&service.connection);
                let response = service.answer(request).await?;
                endless.store(is_endless(&response), Ordering::Relaxed);
                Ok::<_, Infallible>(response.map(|body| Noted::new(body, connection)))
            }
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.asking)
            .max_headers(HEADERS)
            .max_header_size(limits.headers)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), answer)
            .await?;
        Ok(())
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response, Infallible> {
        if !self.connection.begin() {
            let text = "too many requests are being answered: ask again\n";
            return Ok((StatusCode::SERVICE_UNAVAILABLE, RETRY, text).into_response());
        }
        let (parts, body) = request.into_parts();
        if let Some(refusal) = self.hosts.and_then(|hosts| hosts.refusal(&parts)) {
            return Ok(refusal);
        }
        let request = Request::from_parts(parts, Body::new(body));
        self.router.oneshot(request).await
    }
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
