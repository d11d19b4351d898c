//! Whether a change to the host is still in effect.
#![forbid(unsafe_code)]

/// The present state of what a load changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The host is as it was before.
    AsBefore,
    /// The host is as the load left it.
    Ours,
    /// Somebody has changed it since, as this text says.
    Changed(String),
    /// It cannot be undone yet, for this reason.
    InUse(String),
}
