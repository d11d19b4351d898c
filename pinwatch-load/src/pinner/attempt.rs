//! One attempt to pin, and the trait of everything that makes them.
#![forbid(unsafe_code)]

use nix::errno::Errno;

use crate::memory::buffer::Buffer;
use crate::sys;

/// One system call that pins: its result, and `CLOCK_MONOTONIC` in nanoseconds right before and after it.
pub struct Attempt {
    pub result: Result<(), Errno>,
    pub started_ns: u64,
    pub ended_ns: u64,
}

impl Attempt {
    pub fn time<T>(call: impl FnOnce() -> Result<T, Errno>) -> (Self, Option<T>) {
        let started_ns = sys::monotonic_ns();
        let outcome = call();
        let ended_ns = sys::monotonic_ns();
        let attempt = Self {
            result: outcome.as_ref().map(drop).map_err(|errno| *errno),
            started_ns,
            ended_ns,
        };
        (attempt, outcome.ok())
    }
}

/// Makes the pins of one thread, one at a time.
pub trait Pinner: Send {
    /// Pins the buffer. The attempt has the kernel's answer; an error is one of the load itself.
    ///
    /// The pin refers to the pages of the buffer: call [`unpin`](Self::unpin) before the buffer is dropped.
    fn pin(&mut self, buffer: &Buffer) -> anyhow::Result<Attempt>;

    /// Releases the pin of the last attempt, if there is one.
    fn unpin(&mut self) -> anyhow::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_timed_around_its_call() {
        let before = sys::monotonic_ns();
        let (attempt, inside) = Attempt::time(|| Ok(sys::monotonic_ns()));
        let after = sys::monotonic_ns();
        let inside = inside.unwrap();
        let times = [before, attempt.started_ns, inside, attempt.ended_ns, after];
        assert!(times.is_sorted(), "{times:?}");

        let (failed, nothing) = Attempt::time(|| Err::<(), _>(Errno::ENOMEM));
        assert_eq!((failed.result, nothing), (Err(Errno::ENOMEM), None));
        assert!(failed.started_ns <= failed.ended_ns);
    }
}
