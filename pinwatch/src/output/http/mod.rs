//! What the daemon serves over HTTP.

mod page;
mod router;

pub use router::{SCRAPE_SECONDS, Source, StackSource, Web, router};
