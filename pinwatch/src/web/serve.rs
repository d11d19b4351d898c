//! Takes connections and serves a router on them, within [`Limits`].

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

/// How much of the daemon its clients can take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open at a time; further ones wait to be taken.
    pub connections: usize,
    /// For a TLS handshake, for a request's headers, and until a connection is
    /// closed on which nothing is asked.
    pub asking: Duration,
    /// Until an answer begins, and from the first time that its client keeps it
    /// waiting until it has all of it.
    pub answering: Duration,
    /// Bytes of a request's line and headers.
    pub headers: usize,
    /// Bytes of a request's body: nothing here wants one.
    pub body: usize,
}

impl Limits {
    /// Those of the daemon.
    pub const DEFAULT: Self = Self {
        connections: 64,
        asking: Duration::from_secs(30),
        answering: Duration::from_secs(30),
        headers: 16 << 10,
        body: 0,
    };
}

/// Headers of a request, by number.
const HEADERS: usize = 64;
/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens at all of the addresses, or says at which it cannot.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.with_context(|| format!("cannot listen on {address}"))?);
    }
    Ok(listeners)
}

/// What to say of addresses that others can reach, when what is said there can be
/// read on the way.
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
    let who = if settings.users.is_empty() {
        "whoever reaches it can read which processes pin"
    } else {
        "passwords and figures can be read on the way"
    };
    Some(format!(
        "listening on {} without TLS: {who}; --web.config.file sets up TLS and passwords",
        wide.join(" and ")
    ))
}

/// Serves for ever.
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    current: Arc<Current>,
    limits: Limits,
) -> Result<Infallible> {
    let gatekeeper = Arc::new(Gate::new(Arc::clone(&current))?);
    let router = router
        .layer(CompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(limits.body))
        .layer(middleware::from_fn_with_state(gatekeeper, gate))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            limits.answering,
        ));
    let places = Arc::new(Semaphore::new(limits.connections));
    let server = Server {
        router,
        current,
        limits,
        places,
    };
    join_all(listeners.into_iter().map(|listener| server.take(listener))).await;
    anyhow::bail!("no address to serve at")
}

struct Server {
    router: Router,
    current: Arc<Current>,
    limits: Limits,
    places: Arc<Semaphore>,
}

impl Server {
    async fn take(&self, listener: TcpListener) -> Infallible {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("cannot take a connection: {error}");
                    // Mostly too many descriptors: others have to close theirs first.
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let place = Arc::clone(&self.places).acquire_owned().await;
            let (router, limits) = (self.router.clone(), self.limits);
            let tls = self.current.get().tls.clone().map(TlsAcceptor::from);
            tokio::spawn(async move {
                if let Err(error) = connection(stream, tls, router, limits).await {
                    tracing::debug!("a connection: {error:#}");
                }
                drop(place);
            });
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
) -> Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => {
            let stream = timeout(limits.asking, tls.accept(stream)).await??;
            speak(stream, router, limits).await
        }
        None => speak(stream, router, limits).await,
    }
}

/// HTTP/1.1 until either side has enough.
async fn speak<S>(stream: S, router: Router, limits: Limits) -> Result<()>
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

fn is_endless(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_wider_is_told() {
        let told = |addresses: &[&str], users: &[&str]| {
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
            assert_eq!(told(&[own], &[]), None, "{own}");
        }
        for wide in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[2001:db8::1]:1"] {
            let text = told(&["127.0.0.1:1", wide], &[]).unwrap();
            assert!(
                text.contains(wide) && text.contains("without TLS"),
                "{text}"
            );
            assert!(!text.contains("127.0.0.1"), "{text}");
        }
        assert!(
            told(&["0.0.0.0:1"], &["alice"])
                .unwrap()
                .contains("passwords and")
        );
    }
}
