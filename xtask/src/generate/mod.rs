//! `cargo xtask docs`, and the files that are generated from tables and from tests.

mod command;
pub mod kernels_md;

pub use command::{DocsArgs, main};
