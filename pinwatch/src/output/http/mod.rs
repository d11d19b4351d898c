//! HTTP content of the daemon: the routes and the page.

mod page;
mod router;

pub use router::{SCRAPE_SECONDS, Source, StackSource, Web, router};
