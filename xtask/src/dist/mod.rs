//! `cargo xtask dist`: packages, archives, chart and image of a release, and their tests.

mod arch;
mod archive;
mod command;
mod deb;
mod deb_test;
mod install_test;
mod release;
mod root;
mod rpm;
mod rpm_test;
mod stage;
mod tools;
mod validate;

pub use command::{DistArgs, main};
