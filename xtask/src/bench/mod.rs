//! `cargo xtask bench`: repeatable measurements of pinwatch's overhead and losses. Each has its own file and writes
//! its tables into docs/performance.md or docs/reliability.md.

mod agent;
mod command;
pub mod document;
mod figures;
mod guest;
mod here;
pub mod other_tools;
mod overhead;
mod profile;
pub mod regression;
mod reliability;
mod shapes;
mod targets;
mod user;
mod verifier;

pub use command::{BenchArgs, main};
