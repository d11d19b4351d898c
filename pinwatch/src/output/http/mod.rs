//! What the daemon serves over HTTP.

mod page;
mod router;
mod web;

pub use router::{SCRAPE_SECONDS, router};
pub use web::{Source, StackSource, Web};
