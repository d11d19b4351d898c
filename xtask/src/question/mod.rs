//! `cargo xtask question`: the ten claims of December 2020, judged by recordings of four algorithms.

mod algorithms;
mod claims;
mod command;
mod document;
mod measured;

pub use command::{QuestionArgs, main};
pub use document::generated;
