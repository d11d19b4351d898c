//! Output of `pinwatch tail`: a line for each pin that ends, and for each pin that is in flight for long,
//! again whenever its age has doubled. It turns updates of any feed into text for any writer.

mod columns;
mod lines;

pub use lines::{Format, Size, Tail};
