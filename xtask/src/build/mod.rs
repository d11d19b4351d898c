//! Building pinwatch for guests, and the tools that its BPF programs are built with.

pub mod compiler;
pub mod linker;
mod programs;

pub use programs::{bench_programs, bench_user, cargo, pinwatch, with_live_tests};
