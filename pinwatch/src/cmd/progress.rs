//! Progress line on stderr for commands that read recordings, if stderr is a terminal.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Time before the line appears first.
const PATIENCE: Duration = Duration::from_secs(2);
/// Shortest time between two updates.
const PAUSE: Duration = Duration::from_millis(200);

/// A progress line: the number of pins and a word for what happened to them.
pub struct Progress {
    word: &'static str,
    next: Instant,
    shown: bool,
}

impl Progress {
    pub fn new(word: &'static str) -> Self {
        Self {
            word,
            next: Instant::now() + PATIENCE,
            shown: false,
        }
    }

    /// Shows the number of pins so far, unless the last update is too recent.
    pub fn pins(&mut self, pins: u64) {
        let mut err = io::stderr();
        if Instant::now() < self.next || !err.is_terminal() {
            return;
        }
        self.next = Instant::now() + PAUSE;
        self.shown = true;
        // If stderr is closed, nobody reads the progress.
        let _ = write!(err, "\r{pins} pins {}", self.word).and_then(|()| err.flush());
    }

    /// Erases the line.
    pub fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
