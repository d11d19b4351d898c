//! `cargo xtask fuzz`: feeds hostile input to every parser and to all code behind it, with libFuzzer.

mod command;
mod libfuzzer;
mod outcome;
mod targets;

pub use command::{FuzzArgs, main};
