//! Reads a recording for the evaluation.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::evidence::Evidence;
use super::group::Groups;
use super::holds::Holds;
use super::what_if::{Outcome, Rule};
use crate::model::format::Clock;
use crate::model::session::Lost;
use crate::model::state::State;
use crate::recording::replay::Replay;
use crate::recording::{Damage, End, Header};

/// Sums and samples of one recording.
pub struct Capture {
    pub path: PathBuf,
    pub header: Header,
    /// State at the end of the recording.
    pub state: State,
    pub groups: Groups,
    pub evidence: Evidence,
    /// One per `--what-if`, in the given order.
    pub outcomes: Vec<Outcome>,
    /// How long blockers held, with the waits of `--what-if`.
    pub holds: Holds,
    /// Events that the recorder lost.
    pub lost: Lost,
    /// `None` if the recording was cut short.
    pub end: Option<Box<End>>,
    pub damage: Option<Damage>,
}

impl Capture {
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::of(self.header.machine.counts_instructions)
    }
}

/// Reads a recording to its end. Calls `read` with the number of pins so far, once per frame.
pub fn read(path: &Path, rules: &[Rule], mut read: impl FnMut(u64)) -> Result<Capture> {
    let name = || path.display().to_string();
    let mut replay = Replay::open(path)?;
    let header = replay.header().clone();
    let zones = &header.start.status.zones;
    let movable = zones
        .iter()
        .position(|zone| zone.as_deref() == Some("movable"));
    let movable = movable.map(|zone| zone as u8);
    let mut groups = Groups::default();
    let mut evidence = Evidence::default();
    let waits = rules.iter().filter_map(|rule| rule.wait_ns());
    let mut holds = Holds::new(waits);
    let rules = rules.iter().filter(|rule| rule.wait_ns().is_none());
    let mut outcomes: Vec<_> = rules.copied().map(Outcome::new).collect();
    while let Some(pins) = replay.next_pins().with_context(name)? {
        for traced in &pins {
            groups.add(traced, movable);
            holds.pin(&traced.event.pin);
            evidence.add(traced);
            for outcome in &mut outcomes {
                outcome.add(traced);
            }
        }
        replay.holds.iter().for_each(|hold| holds.hold(hold));
        read(evidence.pins);
    }
    holds.end();
    for pin in &replay.state.in_flight {
        evidence.add_in_flight(*pin);
    }
    Ok(Capture {
        path: path.to_owned(),
        header,
        damage: replay.damage(),
        state: replay.state,
        groups,
        evidence,
        outcomes,
        holds,
        lost: replay.lost,
        end: replay.end,
    })
}
