//! A web server of the daemon, with its configuration in a temporary folder.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::routing::get;
use futures_util::stream::repeat_with;
use pinwatch::web::host::Hosts;
use pinwatch::web::limits::Limits;
use pinwatch::web::reload::Current;
use pinwatch::web::serve::{bind, serve};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::authority::{Authority, Identity};

pub struct Server {
    pub address: SocketAddr,
    pub current: Arc<Current>,
    folder: TempDir,
    task: JoinHandle<()>,
}

/// Server name in the certificates of the tests.
pub const NAME: &str = "pinwatch.test";

/// Bytes: more than the buffers on both sides of a connection hold.
pub const LARGE: usize = 32 << 20;

/// A temporary folder with these files.
pub fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("it is there");
    }
    folder
}

/// Configuration of TLS with the certificate in `server.crt` and the key in `server.key`.
pub const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

impl Server {
    /// Starts without a configuration.
    pub async fn plain(limits: Limits) -> Self {
        Self::start(folder(&[]), None, limits, router(), &[]).await
    }

    /// Starts without a configuration, with these names allowed as `Host`.
    pub async fn called(names: &[&str]) -> Self {
        Self::start(folder(&[]), None, Limits::DEFAULT, router(), names).await
    }

    /// Serves another router.
    pub async fn of(router: Router) -> Self {
        Self::start(folder(&[]), None, Limits::DEFAULT, router, &[]).await
    }

    /// Starts with this configuration.
    pub async fn with(config: &str) -> Self {
        let folder = folder(&[("web.yml", config)]);
        let path = folder.path().join("web.yml");
        Self::start(folder, Some(path), Limits::DEFAULT, router(), &[]).await
    }

    /// Starts with TLS. `config` is appended to [`TLS`].
    pub async fn with_tls(authority: &Authority, config: &str) -> Self {
        let Identity { certificate, key } = authority.identity(NAME);
        let folder = folder(&[
            ("server.crt", &certificate),
            ("server.key", &key),
            ("ca.crt", &authority.certificate()),
            ("web.yml", &format!("{TLS}{config}")),
        ]);
        let path = folder.path().join("web.yml");
        Self::start(folder, Some(path), Limits::DEFAULT, router(), &[]).await
    }

    async fn start(
        folder: TempDir,
        config: Option<PathBuf>,
        limits: Limits,
        router: Router,
        names: &[&str],
    ) -> Self {
        let current = Arc::new(Current::open(config.as_deref()).expect("a configuration"));
        let any = "127.0.0.1:0".parse().expect("an address");
        let listeners = bind(&[any]).await.expect("a port");
        let address = listeners[0].local_addr().expect("bound");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let hosts = Hosts::new(&names);
        let served = serve(listeners, router, Arc::clone(&current), limits, hosts);
        Self {
            address,
            current,
            folder,
            task: tokio::spawn(async {
                served.await.map(|never| match never {}).expect("it serves");
            }),
        }
    }

    /// Text of a file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("it is there")
    }

    /// Replaces a file atomically, as tools do.
    pub fn replace(&self, name: &str, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).expect("it is there");
        fs::rename(new, self.folder.path().join(name)).expect("it is there");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `/` counts its requests, `/large` is large, `/events` is endless, `/never` does not respond.
fn router() -> Router {
    let asked = Arc::new(AtomicU64::new(0));
    let events = || {
        Sse::new(repeat_with(|| {
            Ok::<_, axum::Error>(Event::default().data("x".repeat(4096)))
        }))
    };
    Router::new()
        .route(
            "/",
            get(async move || asked.fetch_add(1, Ordering::Relaxed).to_string()),
        )
        .route("/large", get(async || "x".repeat(LARGE)))
        .route("/events", get(async move || events()))
        .route(
            "/never",
            get(async || tokio::time::sleep(Duration::MAX).await),
        )
}
