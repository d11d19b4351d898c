//! The web side: `/metrics`, `/healthz`, `/readyz`, and a page at `/`. Knows
//! nothing of what the figures mean.

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder as _, Registry, TextEncoder};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the handlers need.
#[derive(Clone)]
pub struct Web {
    pub registry: Registry,
    /// Whether the kernel is being watched.
    pub ready: Arc<AtomicBool>,
}

/// The routes.
pub fn router(web: Web) -> Router {
    Router::new()
        .route("/", get(landing))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(web)
}

async fn metrics(Shared(web): Shared<Web>) -> Response {
    let encoder = TextEncoder::new();
    let mut body = Vec::new();
    match encoder.encode(&web.registry.gather(), &mut body) {
        Ok(()) => (
            [(header::CONTENT_TYPE, encoder.format_type().to_owned())],
            body,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn readyz(Shared(web): Shared<Web>) -> (StatusCode, &'static str) {
    if web.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "attached\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "attaching\n")
    }
}

async fn landing() -> Html<&'static str> {
    Html(include_str!("landing.html"))
}
