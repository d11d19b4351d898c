//! Builds pinwatch for guests and tests, and finds the tools for its BPF programs.

pub mod compiler;
pub mod cross;
pub mod linker;
mod programs;

pub use programs::{
    bench_programs, bench_user, cargo, for_live_tests, for_live_tests_on, lint, own_tests,
    pinwatch, pinwatch_on, tests,
};
