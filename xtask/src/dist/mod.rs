//! `cargo xtask dist`, and the test that installs the package on a whole system.

mod command;
mod install_test;

pub use command::{DistArgs, main};
