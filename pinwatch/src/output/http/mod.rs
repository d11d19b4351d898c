//! HTTP content of the daemon: the routes and the page.

#![forbid(unsafe_code)]

mod page;
mod router;

pub use router::{SCRAPE_SECONDS, Source, StackSource, Web, router};
