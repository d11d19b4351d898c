//! How far a command is that reads recordings, on a terminal, once it takes long.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

pub struct Progress {
    what: &'static str,
    next: Instant,
    shown: bool,
}

impl Progress {
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            next: Instant::now() + PATIENCE,
            shown: false,
        }
    }

    pub fn pins(&mut self, pins: u64) {
        let mut err = io::stderr();
        if Instant::now() < self.next || !err.is_terminal() {
            return;
        }
        self.next = Instant::now() + PAUSE;
        self.shown = true;
        // Whoever closed it does not want to know.
        let _ = write!(err, "\r{pins} pins {}", self.what).and_then(|()| err.flush());
    }

    pub fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
