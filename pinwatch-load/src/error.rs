//! The one error that has an exit status of its own.
#![forbid(unsafe_code)]

/// The load is impossible on this machine, or the flags contradict each other: exit status 2 with this sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(String);

impl Unavailable {
    pub fn because(why: impl Into<String>) -> anyhow::Error {
        Self(why.into()).into()
    }
}
