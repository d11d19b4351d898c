//! HTTP routes of the daemon: `/metrics`, `/in-flight`, `/state`, `/healthz`, `/readyz`, and the
//! routes of the page at `/`.

#![forbid(unsafe_code)]

use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Histogram, HistogramOpts, exponential_buckets};
use std::time::Instant;

use super::page;
use super::stacks::{Stacks, stack};
use super::web::Web;
use crate::model::in_flight;
use crate::model::state::State;
use crate::model::view::View;
use crate::output::metrics::text::{self, TextFormat};

/// Name and HELP of the scrape histogram, the one metric here that does not come from a [`State`].
pub const SCRAPE_SECONDS: (&str, &str) = (
    "pinwatch_scrape_duration_seconds",
    "Seconds to gather and encode the answer to a scrape of /metrics, without compression and sending.",
);

/// Builds the routes and registers the scrape histogram.
///
/// # Errors
///
/// If the registry already has a metric of that name.
pub fn router(web: Web) -> prometheus::Result<Router> {
    let (name, help) = SCRAPE_SECONDS;
    // Twelve buckets from 0.25 ms to 512 ms.
    let buckets = exponential_buckets(0.000_25, 2.0, 12)?;
    let scrapes = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
    web.registry.register(Box::new(scrapes.clone()))?;
    let stacks = Stacks::default();
    Ok(Router::new()
        .merge(page::router())
        .route(
            "/metrics",
            get(|web, headers| metrics(web, headers, scrapes)),
        )
        .route("/in-flight", get(pins_in_flight))
        .route(
            "/in-flight/{tid}/stack",
            get(|Shared(web): Shared<Web>, Path(tid): Path<u32>| stack(web, stacks, tid)),
        )
        .route("/state", get(state))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(web))
}

async fn metrics(Shared(web): Shared<Web>, headers: HeaderMap, scrapes: Histogram) -> Response {
    let started = Instant::now();
    let (state, agent) = ((web.scraped)(), web.registry.gather());
    let accept = headers.get_all(header::ACCEPT).iter();
    let accept: Vec<_> = accept.filter_map(|value| value.to_str().ok()).collect();
    let format = TextFormat::accepted(&accept.join(","));
    let body = text::encode(state.as_ref(), &agent, format);
    scrapes.observe(started.elapsed().as_secs_f64());
    let headers = [
        (header::CONTENT_TYPE, format.content_type()),
        (header::VARY, "accept"),
    ];
    (headers, body).into_response()
}

/// 200 once attached; 503 while attaching, or if a kernel switch silences hooks.
async fn readyz(Shared(web): Shared<Web>) -> (StatusCode, String) {
    let Some(state) = (web.source)() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "attaching\n".to_owned());
    };
    let silenced = state.silenced();
    if silenced.is_empty() {
        return (StatusCode::OK, "attached\n".to_owned());
    }
    let body = format!("attached hooks do not run: {}\n", silenced.join("; "));
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

async fn pins_in_flight(Shared(web): Shared<Web>) -> Response {
    json(&web, in_flight::json)
}

async fn state(Shared(web): Shared<Web>) -> Response {
    json(&web, |state| serde_json::to_string(&View::new(state)))
}

/// Responds with the state as JSON; 503 while attaching.
fn json(web: &Web, body: impl Fn(&State) -> serde_json::Result<String>) -> Response {
    let Some(state) = (web.source)() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "attaching\n").into_response();
    };
    match body(&state) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
