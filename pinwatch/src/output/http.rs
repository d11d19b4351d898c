//! The web side: `/metrics`, `/in-flight`, `/healthz`, `/readyz`, and a page at
//! `/`. Knows nothing of what the figures mean.

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder as _, Registry, TextEncoder};
use std::sync::Arc;

use super::in_flight;
use crate::aggregate::State;

/// Gives the state; `None` until the kernel is being watched.
pub type Source = Arc<dyn Fn() -> Option<State> + Send + Sync>;

/// What the handlers need.
#[derive(Clone)]
pub struct Web {
    pub registry: Registry,
    pub source: Source,
}

/// The routes.
pub fn router(web: Web) -> Router {
    Router::new()
        .route("/", get(landing))
        .route("/metrics", get(metrics))
        .route("/in-flight", get(pins_in_flight))
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
    if (web.source)().is_some() {
        (StatusCode::OK, "attached\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "attaching\n")
    }
}

async fn pins_in_flight(Shared(web): Shared<Web>) -> Response {
    let Some(state) = (web.source)() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "attaching\n").into_response();
    };
    match in_flight::json(&state) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn landing() -> Html<&'static str> {
    Html(include_str!("landing.html"))
}
