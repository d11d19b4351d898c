//! `cargo xtask evaluate`: records the same load on several kernels and compares the recordings.

mod aa;
mod args;
mod boots;
mod command;
mod comparison;
mod side;

pub use args::EvaluateArgs;
pub use boots::{Boots, LIMIT, Load, guest};
pub use command::main;
pub use side::Side;
