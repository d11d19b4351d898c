//! Building pinwatch for guests, and the tools that its BPF programs are built with.

pub mod compiler;
pub mod linker;
mod programs;

pub use programs::{
    GUEST_TARGETS, bench_programs, bench_user, cargo, for_live_tests, pinwatch, tests,
};
