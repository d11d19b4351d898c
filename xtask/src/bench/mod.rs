//! `cargo xtask bench`: what watching costs, measured so that it repeats, and what it misses. Each
//! kind of measurement has a file of its own and writes its tables into docs/performance.md or
//! docs/reliability.md.

mod agent;
mod command;
mod document;
mod figures;
mod guest;
mod other_tools;
mod overhead;
mod profile;
pub mod regression;
mod reliability;
mod targets;
mod user;
mod verifier;

pub use command::{BenchArgs, main};
