//! A recording, read for evaluation.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::evidence::Evidence;
use super::group::Groups;
use super::what_if::{Outcome, Rule};
use crate::model::session::Lost;
use crate::recording::replay::Replayed;
use crate::recording::{Damage, End, Header, Item, Reader};

/// All that is kept of a recording.
pub struct Capture {
    pub path: PathBuf,
    pub header: Header,
    /// The state at its end, as live had it.
    pub replayed: Replayed,
    pub groups: Groups,
    pub evidence: Evidence,
    pub outcomes: Vec<Outcome>,
    pub lost: Lost,
    /// None if it was cut short.
    pub end: Option<Box<End>>,
    pub damage: Option<Damage>,
}

/// Reads a recording to its end. `read` is told of the pins so far now and then.
pub fn read(path: &Path, rules: &[Rule], mut read: impl FnMut(u64)) -> Result<Capture> {
    let name = || path.display().to_string();
    let file = File::open(path).with_context(name)?;
    let mut reader = Reader::new(file).with_context(name)?;
    let header = reader.header().clone();
    let zones = &header.start.rest.zones;
    let movable = zones
        .iter()
        .position(|zone| zone.as_deref() == Some("movable"));
    let movable = movable.map(|zone| zone as u8);
    let mut capture = Capture {
        path: path.to_owned(),
        replayed: Replayed::new(&header),
        groups: Groups::default(),
        evidence: Evidence::default(),
        outcomes: rules.iter().copied().map(Outcome::new).collect(),
        lost: Lost::default(),
        end: None,
        damage: None,
        header,
    };
    while let Some(item) = reader.next_item().with_context(name)? {
        match item {
            Item::Pins(pins) => {
                for traced in &pins {
                    capture.replayed.add(traced);
                    capture.groups.add(traced, movable);
                    capture.evidence.add(traced);
                    for outcome in &mut capture.outcomes {
                        outcome.add(traced);
                    }
                }
                read(capture.evidence.pins);
            }
            Item::Lost(lost) => capture.lost = lost,
            Item::End(end) => {
                capture.lost = end.lost;
                capture.replayed.end(&end);
                capture.end = Some(end);
            }
        }
    }
    capture.damage = reader.damage();
    Ok(capture)
}
