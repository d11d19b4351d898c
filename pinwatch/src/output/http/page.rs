//! The page for people at `/`, and the stream of states that feeds it. All of it
//! is in this binary: the page asks nobody else, and its policy forbids it to.

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

/// Between two states.
const TICK: Duration = Duration::from_secs(1);
/// Pages that are open at a time.
const PAGES: usize = 32;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's routes.
pub fn router() -> Router<Web> {
    let pages = Arc::new(Semaphore::new(PAGES));
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
            get(async |Shared(web): Shared<Web>| events(web.source, pages)),
        )
}

async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, include_str!("page/index.html"))
}

fn events(source: Source, pages: Arc<Semaphore>) -> Response {
    if source().is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "attaching\n").into_response();
    }
    let Ok(place) = pages.try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n").into_response();
    };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let page = Page {
        source,
        tick,
        _place: place,
    };
    Sse::new(unfold(page, async |mut page| {
        let event = page.next().await?;
        Some((Ok::<_, Infallible>(event), page))
    }))
    .into_response()
}

/// An open page.
struct Page {
    source: Source,
    tick: Interval,
    _place: OwnedSemaphorePermit,
}

impl Page {
    /// The next state. None if it cannot be written as JSON, which ends the stream.
    async fn next(&mut self) -> Option<Event> {
        self.tick.tick().await;
        let state = (self.source)()?;
        let text = serde_json::to_string(&View::new(&state)).ok()?;
        Some(Event::default().data(text))
    }
}
