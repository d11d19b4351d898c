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
                sleeps: false,
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
            faults: None,
            sleeps: true,
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
}
