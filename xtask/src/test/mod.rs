//! `cargo xtask test`.

mod boots;
mod command;
mod counts;
mod lab;
mod matrix;
mod only_on;
mod steps;
mod two_hosts;

pub use command::{TestArgs, main};
