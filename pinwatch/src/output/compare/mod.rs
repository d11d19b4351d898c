//! Text, JSON and HTML page of `pinwatch compare`.

mod html;
mod plot;
mod shown;
mod text;

pub use html::html;
pub use shown::{Shown, json};
pub use text::text;
