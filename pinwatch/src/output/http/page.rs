//! The page at `/`, and the stream of states that feeds it. The binary contains all its files: the page
//! loads nothing from elsewhere, and its content security policy forbids it.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::web::{Source, Web};
use crate::model::view::View;

/// Interval between two states.
const TICK: Duration = Duration::from_secs(1);
/// Maximum number of open pages.
const PAGES: usize = 32;

/// Content security policy of the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Routes of the page: `/`, its files, and `/events`.
pub fn router() -> Router<Web> {
    let permits = Arc::new(Semaphore::new(PAGES));
    let file = |kind, text: &'static str| get(async move || ([(header::CONTENT_TYPE, kind)], text));
    Router::new()
        .route("/", get(page))
        .route("/page.css", file("text/css", include_str!("page/page.css")))
        .route(
            "/page.js",
            file("text/javascript", include_str!("page/page.js")),
        )
        .route(
            "/events",
            get(async |Shared(web): Shared<Web>| events(web.source, permits)),
        )
}

async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, include_str!("page/index.html"))
}

/// Opens a stream of states; 503 while attaching, or if too many pages are open.
fn events(source: Source, permits: Arc<Semaphore>) -> Response {
    if source().is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "attaching\n").into_response();
    }
    let Ok(permit) = permits.try_acquire_owned() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many pages are open: close one\n",
        )
            .into_response();
    };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let page = Page {
        source,
        tick,
        _permit: permit,
    };
    Sse::new(unfold(page, async |mut page| {
        let event = page.next().await?;
        Some((Ok::<_, Infallible>(event), page))
    }))
    .into_response()
}

/// Stream of an open page.
struct Page {
    source: Source,
    tick: Interval,
    _permit: OwnedSemaphorePermit,
}

impl Page {
    /// Waits for the next state and returns it as an event. `None`, which ends the stream, if it cannot be
    /// written as JSON.
    async fn next(&mut self) -> Option<Event> {
        self.tick.tick().await;
        let state = (self.source)()?;
        let text = serde_json::to_string(&View::new(&state)).ok()?;
        Some(Event::default().data(text))
    }
}
