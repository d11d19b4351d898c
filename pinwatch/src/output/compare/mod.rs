//! Text, JSON, HTML page and texts for mail of `pinwatch compare`.

mod conclusion;
mod html;
mod mail;
mod mmtests;
mod plot;
mod shown;
mod text;

pub use html::html;
pub use mail::mail;
pub use mmtests::mmtests;
pub use shown::{Shown, json};
pub use text::text;
