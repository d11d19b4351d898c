//! `cargo xtask test`.

mod command;
mod counts;
mod matrix;

pub use command::{TestArgs, main};
