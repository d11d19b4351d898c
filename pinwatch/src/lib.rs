//! pinwatch measures the kernel's long-term page pins.
//!
//! Data flows one way: `kernel` and `probe` (facts, the plan) → `source` (state and events) →
//! `model` (views of both) → `stream`, `series` and `recording` → `evaluation` and `output`. The
//! commands in `cmd` connect the parts. docs/architecture.md lists every module; tests/tidy/folders.rs
//! enforces which folder may import which.

pub mod cli;
pub mod cmd;
pub mod evaluation;
pub mod host;
pub mod kernel;
pub mod model;
pub mod output;
pub mod probe;
pub mod recording;
pub mod series;
pub mod source;
pub mod stream;
pub mod web;
