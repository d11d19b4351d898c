//! `pinwatch tail`: a line per pin as it ends, and lines for pins in flight that
//! are old, repeated as their age doubles. Turns updates into text; knows neither
//! where they come from nor where the text goes.

mod columns;
mod lines;

pub use lines::{Format, Size, Tail};
