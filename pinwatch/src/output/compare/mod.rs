//! Text, JSON and HTML page of `pinwatch compare`.

#![forbid(unsafe_code)]

mod html;
mod plot;
mod shown;
mod text;

pub use html::html;
pub use shown::{Shown, json};
pub use text::text;
