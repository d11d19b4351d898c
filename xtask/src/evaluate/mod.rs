//! `cargo xtask evaluate`: records the same load on several kernels and compares the recordings.

mod boots;
mod command;
mod comparison;
mod side;

pub use command::{EvaluateArgs, main};
