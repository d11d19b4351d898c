//! A server with a configuration in a folder of its own.

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
use pinwatch::web::reload::Current;
use pinwatch::web::serve::{Limits, bind, serve};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::authority::{Authority, Identity};

pub struct Server {
    pub address: SocketAddr,
    pub current: Arc<Current>,
    folder: TempDir,
    task: JoinHandle<()>,
}

/// Of the tests' certificates.
pub const NAME: &str = "pinwatch.test";

/// More than the buffers of a connection on both sides.
pub const LARGE: usize = 32 << 20;

/// A folder with a configuration and files beside it.
pub fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("it is there");
    }
    folder
}

/// What serves a certificate in `server.crt` and `server.key`.
pub const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

impl Server {
    /// Without a configuration.
    pub async fn plain(limits: Limits) -> Self {
        Self::start(folder(&[]), None, limits).await
    }

    /// With this configuration.
    pub async fn with(config: &str) -> Self {
        let folder = folder(&[("web.yml", config)]);
        let path = folder.path().join("web.yml");
        Self::start(folder, Some(path), Limits::DEFAULT).await
    }

    /// With TLS, and this too.
    pub async fn with_tls(authority: &Authority, config: &str) -> Self {
        let Identity { certificate, key } = authority.identity(NAME);
        let folder = folder(&[
            ("server.crt", &certificate),
            ("server.key", &key),
            ("ca.crt", &authority.certificate()),
            ("web.yml", &format!("{TLS}{config}")),
        ]);
        let path = folder.path().join("web.yml");
        Self::start(folder, Some(path), Limits::DEFAULT).await
    }

    async fn start(folder: TempDir, config: Option<PathBuf>, limits: Limits) -> Self {
        let current = Arc::new(Current::open(config.as_deref()).expect("a configuration"));
        let any = "127.0.0.1:0".parse().expect("an address");
        let listeners = bind(&[any]).await.expect("a port");
        let address = listeners[0].local_addr().expect("bound");
        let served = serve(listeners, router(), Arc::clone(&current), limits);
        Self {
            address,
            current,
            folder,
            task: tokio::spawn(async {
                served.await.map(|never| match never {}).expect("it serves");
            }),
        }
    }

    /// Replaces a file as tools do: all at once.
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
