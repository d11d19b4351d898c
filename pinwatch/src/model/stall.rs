//! Observations of the thread behind an old pin in flight, which tell kinds of waiting apart.
#![forbid(unsafe_code)]

use pinwatch_common::record::{Phase, Pin};
use serde::{Deserialize, Serialize};

/// Age in nanoseconds from which a pin in flight is old: its thread is read from procfs. Younger pins cost no read.
pub const OLD_NS: u64 = 100_000_000;

/// Page faults that a pin can need per requested page: one to read it, and one to copy it for writing.
const FAULTS_PER_PAGE: u64 = 2;

/// Observations of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Page faults of the thread since the pin was first seen to be old, in the same pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<u64>,
    /// Whether the thread slept uninterruptibly when it was read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sleeps: bool,
    /// Other threads of its process, which may wait for a lock that the pin holds; only of stuck pins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
}

/// Numbers of threads in the process of a stuck pin, without threads that are in a pin themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Threads that sleep uninterruptibly: for a lock of the kernel, or for I/O.
    pub uninterruptible: u32,
    /// Threads among them that wait for `mmap_lock`; `None` if the kernel does not show where threads sleep.
    pub mmap_lock: Option<u32>,
}

impl Behind {
    /// Threads that wait for `mmap_lock`; if none does, or this is unknown, those that sleep uninterruptibly.
    #[must_use]
    pub fn threads(self) -> u32 {
        self.waiting().unwrap_or(self.uninterruptible)
    }

    /// In words; `None` if no thread waits.
    #[must_use]
    pub fn words(self) -> Option<String> {
        let what = match self.waiting() {
            Some(_) => ["waits for mmap_lock", "wait for mmap_lock"],
            None => ["sleeps uninterruptibly", "sleep uninterruptibly"],
        };
        match self.threads() {
            0 => None,
            1 => Some(format!("1 other thread of the process {}", what[0])),
            n => Some(format!("{n} other threads of the process {}", what[1])),
        }
    }

    fn waiting(self) -> Option<u32> {
        self.mmap_lock.filter(|threads| *threads > 0)
    }
}

/// A moment at which the threads of pins are observed.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// In nanoseconds of `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// Age in nanoseconds from which a pin is stuck.
    pub stuck_after_ns: u64,
    /// All pins in flight.
    pub in_flight: &'a [Pin],
}

impl Moment<'_> {
    /// Age of a pin in flight, in nanoseconds.
    #[must_use]
    pub fn age_ns(&self, pin: &Pin) -> u64 {
        self.now_ns.saturating_sub(pin.start_ns)
    }

    #[must_use]
    pub fn is_stuck(&self, pin: &Pin) -> bool {
        self.age_ns(pin) >= self.stuck_after_ns
    }
}

impl Stall {
    /// Activity that only these observations show, in words.
    #[must_use]
    pub fn activity(&self, pin: &Pin) -> Option<String> {
        let is = |phase: Phase| pin.phase == phase as u8;
        let enough = pin.requested.max(1).saturating_mul(FAULTS_PER_PAGE);
        match self.faults {
            Some(faults) if is(Phase::Gup) && faults > enough => Some(format!(
                "faulting without progress: {faults} page faults for {} pages, pass {}",
                pin.requested, pin.passes
            )),
            _ if is(Phase::Drain) && self.sleeps => Some(format!(
                "waiting in drain {} for another CPU or another drain",
                pin.drains
            )),
            // Nothing else in a collect sleeps. Kernels whose drains cannot be hooked count their time as collect.
            _ if is(Phase::Collect) && self.sleeps => {
                Some("waiting in a drain for another CPU or another drain".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    fn pin(phase: Phase) -> Pin {
        Pin {
            requested: 256,
            drains: 3,
            phase: phase as u8,
            ..Pin::zeroed()
        }
    }

    #[test]
    fn more_faults_than_a_pin_can_need_are_no_progress() {
        let activity = |faults, phase| {
            let stall = Stall {
                faults: Some(faults),
                ..Stall::default()
            };
            stall.activity(&pin(phase))
        };
        assert_eq!(activity(512, Phase::Gup), None, "a copy of each page");
        let expected = "faulting without progress: 513 page faults for 256 pages, pass 0";
        assert_eq!(activity(513, Phase::Gup).as_deref(), Some(expected));
        assert_eq!(activity(513, Phase::Migrate), None);
        assert_eq!(Stall::default().activity(&pin(Phase::Gup)), None);
    }

    #[test]
    fn a_thread_that_sleeps_in_a_drain_waits() {
        let sleeps = Stall {
            sleeps: true,
            ..Stall::default()
        };
        let expected = "waiting in drain 3 for another CPU or another drain";
        assert_eq!(
            sleeps.activity(&pin(Phase::Drain)).as_deref(),
            Some(expected)
        );
        let expected = "waiting in a drain for another CPU or another drain";
        assert_eq!(
            sleeps.activity(&pin(Phase::Collect)).as_deref(),
            Some(expected)
        );
        assert_eq!(Stall::default().activity(&pin(Phase::Collect)), None);
        assert_eq!(sleeps.activity(&pin(Phase::Gup)), None);
        assert_eq!(Stall::default().activity(&pin(Phase::Drain)), None);
    }

    #[test]
    fn threads_behind_a_pin_are_counted_in_words() {
        let words = |uninterruptible, mmap_lock| {
            let behind = Behind {
                uninterruptible,
                mmap_lock,
            };
            behind.words()
        };
        assert_eq!(words(0, None), None);
        assert_eq!(words(0, Some(0)), None);
        let sleeps = "1 other thread of the process sleeps uninterruptibly";
        assert_eq!(words(1, None).as_deref(), Some(sleeps));
        assert_eq!(words(1, Some(0)).as_deref(), Some(sleeps));
        let wait = "3 other threads of the process wait for mmap_lock";
        assert_eq!(words(4, Some(3)).as_deref(), Some(wait));
        let waits = "1 other thread of the process waits for mmap_lock";
        assert_eq!(words(2, Some(1)).as_deref(), Some(waits));
    }
}
