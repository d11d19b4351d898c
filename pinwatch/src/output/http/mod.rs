//! HTTP content of the daemon: the routes and the page.

mod page;
mod router;
mod stacks;
mod web;

pub use router::{SCRAPE_SECONDS, router};
pub use web::{Source, StackSource, Web};
