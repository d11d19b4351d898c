//! A comparison, as text, as JSON and as a page.

mod html;
mod plot;
mod shown;
mod text;

pub use html::html;
pub use shown::{Shown, json};
pub use text::text;
