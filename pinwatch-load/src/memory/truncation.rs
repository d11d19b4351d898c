//! A file that loses its pages after a time: faults of its mappings fail then.
#![forbid(unsafe_code)]

use std::fs::File;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::signals;

/// The thread that truncates a file. Dropping it truncates the file at once.
pub struct Truncation {
    thread: Option<JoinHandle<()>>,
    give_up: signals::Flag,
}

impl Truncation {
    pub fn after(time: Duration, file: File) -> Self {
        let give_up = signals::Flag::default();
        let seen = give_up.clone();
        let thread = thread::spawn(move || {
            signals::sleep_unless(time, || seen.is_set());
            // Takes no mmap_lock, which a pin can hold. It cannot fail: the file has no seals.
            let _ = file.set_len(0);
        });
        Self {
            thread: Some(thread),
            give_up,
        }
    }
}

impl Drop for Truncation {
    fn drop(&mut self) {
        self.give_up.set();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
