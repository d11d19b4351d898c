//! pinwatch watches the kernel's long-term page pins.
//!
//! One-way flow, and imports point up it only:
//! `kernel` and `probe` (what is there, what to attach) → `source` (pins and
//! statistics) → `aggregate` (the state) → `view` and `ended` (in words) → `stream`
//! (to whoever watches) → `output`; `web` serves what `output` shows. The commands in `cmd` put them together.

pub mod cli;
pub mod cmd;
pub mod evaluation;
pub mod host;
pub mod kernel;
pub mod load;
pub mod model;
pub mod output;
pub mod probe;
pub mod recording;
pub mod series;
pub mod source;
pub mod stream;
pub mod web;
