//! Polls until a condition holds or a deadline passes.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longer than any step of these tests takes, even in an emulated guest.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between polls. Without one, an emulated guest has no processor time left for the awaited event.
const TICK: Duration = Duration::from_millis(10);

/// Polls until `f` returns a value. Panics, naming `what`, after `patience`.
#[track_caller]
pub fn wait_for<T>(what: &str, patience: Duration, mut f: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = f() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {} s in vain for {what}",
            patience.as_secs()
        );
        sleep(TICK);
    }
}

/// Polls until `f` is true. Panics, naming `what`, after `patience`.
#[track_caller]
pub fn wait_until(what: &str, patience: Duration, mut f: impl FnMut() -> bool) {
    wait_for(what, patience, || f().then_some(()));
}
