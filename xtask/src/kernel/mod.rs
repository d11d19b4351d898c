//! The kernel lab: kernels for guests, built from Debian's sources with the user's patches.

mod build;
mod builds;
mod command;
mod config;
mod make;
mod source;
mod store;
mod tree;

pub use build::{PAGES_IN_CMA, Recipe, build, parse_source};
pub use builds::{BUILDS, Build};
pub use command::{KernelArgs, main};
pub use make::Compiler;
pub use source::selftest;
pub use store::{Choice, own};
