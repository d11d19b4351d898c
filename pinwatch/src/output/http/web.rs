//! Shared data of the HTTP handlers: the state and the kernel stacks.

#![forbid(unsafe_code)]

use std::sync::Arc;

use prometheus::Registry;

use crate::model::state::State;
use crate::source::stack::{Stack, StackError};

/// Function that reads the current state. `None` until all hooks are attached.
pub type Source = Arc<dyn Fn() -> Option<State> + Send + Sync>;

/// Function that reads the kernel stack of a thread, by thread id. It blocks; `None` until all hooks
/// are attached.
pub type StackSource = Arc<dyn Fn(u32) -> Option<Result<Stack, StackError>> + Send + Sync>;

/// Shared data of the HTTP handlers.
#[derive(Clone)]
pub struct Web {
    /// Metrics of the agent itself, without those of a state.
    pub registry: Registry,
    pub source: Source,
    /// The state of a scrape: that of `source` with the series of `--per`.
    pub scraped: Source,
    pub stacks: StackSource,
}
