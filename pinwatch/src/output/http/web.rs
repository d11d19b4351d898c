//! The state and the stacks that the handlers show.

use std::sync::Arc;

use prometheus::Registry;

use crate::model::state::State;
use crate::source::stack::{Stack, StackError};

/// Gives the state; `None` until the kernel is being watched.
pub type Source = Arc<dyn Fn() -> Option<State> + Send + Sync>;

/// Gives the kernel stack of a thread; blocks for a moment.
pub type StackSource = Arc<dyn Fn(u32) -> Option<Result<Stack, StackError>> + Send + Sync>;

/// What the handlers need.
#[derive(Clone)]
pub struct Web {
    pub registry: Registry,
    pub source: Source,
    pub stacks: StackSource,
}
