//! Observes the threads of old pins in flight, through procfs.
//!
//! Reads only when an output lists the pins, so an idle daemon reads nothing. The first reading of a pin's page faults is
//! the base of the later ones.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pinwatch_common::record::Pin;

use super::behind::Behinds;
use super::thread::thread;
use crate::kernel::procfs::{self, MINOR_FAULTS, STATE};
use crate::model::stall::{Behind, Moment, OLD_NS, Stall};
use crate::model::thread::{Observe, Thread};

/// Maximum number of pins whose page faults are remembered. Outputs list the oldest pins first.
const REMEMBERED: usize = 1024;

/// Threads of this machine, with the page faults of old pins.
#[derive(Debug, Default)]
pub struct LiveThreads {
    first: Mutex<HashMap<u32, First>>,
    behind: Mutex<Behinds>,
}

/// First reading of the page faults of a thread in a pin.
#[derive(Clone, Copy, Debug)]
struct First {
    start_ns: u64,
    passes: u32,
    faults: u64,
}

impl Observe for LiveThreads {
    fn thread(&self, tid: u32) -> Thread {
        thread(tid)
    }

    fn stall(&self, pin: &Pin, moment: &Moment<'_>) -> Stall {
        if moment.age_ns(pin) < OLD_NS || !procfs::in_initial_pid_namespace() {
            return Stall::default();
        }
        let stat = procfs::text(pin.tid, "stat").unwrap_or_default();
        Stall {
            faults: procfs::stat_field(&stat, MINOR_FAULTS)
                .and_then(|now| self.faults_since_first(pin, now)),
            sleeps: procfs::stat_field(&stat, STATE) == Some('D'),
            behind: moment
                .is_stuck(pin)
                .then(|| self.behind(pin, moment))
                .flatten(),
        }
    }
}

impl LiveThreads {
    fn behind(&self, pin: &Pin, moment: &Moment<'_>) -> Option<Behind> {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.of(pin, moment)
    }

    /// Page faults since the first reading in this pass of the pin; `None` for the first one.
    fn faults_since_first(&self, pin: &Pin, faults: u64) -> Option<u64> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |first: &&First| first.start_ns == pin.start_ns && first.passes == pin.passes;
        if let Some(first) = first.get(&pin.tid).filter(is_same) {
            return Some(faults.saturating_sub(first.faults));
        }
        if first.len() >= REMEMBERED {
            first.clear();
        }
        let reading = First {
            start_ns: pin.start_ns,
            passes: pin.passes,
            faults,
        };
        first.insert(pin.tid, reading);
        None
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    #[test]
    fn faults_are_counted_from_the_first_reading_of_a_pass() {
        let threads = LiveThreads::default();
        let pin = Pin {
            tid: 7,
            start_ns: 5,
            ..Pin::zeroed()
        };
        assert_eq!(threads.faults_since_first(&pin, 100), None);
        assert_eq!(threads.faults_since_first(&pin, 100), Some(0));
        assert_eq!(threads.faults_since_first(&pin, 130), Some(30));
        let next_pass = Pin { passes: 1, ..pin };
        assert_eq!(threads.faults_since_first(&next_pass, 140), None);
        let next_pin = Pin { start_ns: 6, ..pin };
        assert_eq!(
            threads.faults_since_first(&next_pin, 150),
            None,
            "another pin of the thread"
        );
    }

    #[test]
    fn the_memory_is_bounded() {
        let threads = LiveThreads::default();
        for tid in 0..3 * REMEMBERED as u32 {
            let pin = Pin {
                tid,
                ..Pin::zeroed()
            };
            assert_eq!(threads.faults_since_first(&pin, 1), None);
        }
        assert!(threads.first.lock().expect("no panic").len() <= REMEMBERED);
    }

    #[test]
    fn young_pins_cost_no_read() {
        let threads = LiveThreads::default();
        let tid = std::process::id();
        let pin = Pin {
            tid,
            ..Pin::zeroed()
        };
        let moment = Moment {
            now_ns: OLD_NS - 1,
            stuck_after_ns: 0,
            in_flight: &[pin],
        };
        assert_eq!(threads.stall(&pin, &moment), Stall::default());
        assert!(threads.first.lock().expect("no panic").is_empty());
    }
}
