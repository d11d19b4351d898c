//! Replays a recording: folds its pins into a state, with the fold of the live daemon.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use pinwatch_common::cells::Alone;
use pinwatch_common::fold::{fold_blockers, fold_hold, fold_pin};
use pinwatch_common::hold::HoldRecord;

use super::format::{End, Header};
use super::read::{Damage, Item, Reader};
use crate::model::session::Lost;
use crate::model::state::State;
use crate::model::trace::Traced;

/// A recording and the state of the pins read so far.
pub struct Replay<R> {
    reader: Reader<R>,
    pub state: State,
    /// Holds that the last call of [`Self::next_pins`] read.
    pub holds: Vec<HoldRecord>,
    /// Calls of `migrate_pages` without a duration of their own. The migration histogram of the live
    /// daemon includes them, the one of the replay does not.
    pub untimed: u64,
    /// Events that the recorder lost, up to the last frame read.
    pub lost: Lost,
    /// Last frame; `None` until it is read, and in a recording that was cut short.
    pub end: Option<Box<End>>,
}

impl Replay<File> {
    /// Opens a recording and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        let name = || path.display().to_string();
        let file = File::open(path).with_context(name)?;
        Self::new(file).with_context(name)
    }
}

impl<R: Read> Replay<R> {
    /// Reads the header.
    pub fn new(input: R) -> Result<Self> {
        let reader = Reader::new(input)?;
        let start = &reader.header().start;
        let mut state = State::empty(&start.release, &start.era);
        start.status.apply(&mut state);
        // Pins that were in flight at the beginning follow as recorded pins.
        state.in_flight.clear();
        state.claimed = 0;
        Ok(Self {
            reader,
            state,
            holds: Vec::new(),
            untimed: 0,
            lost: Lost::default(),
            end: None,
        })
    }

    #[must_use]
    pub fn header(&self) -> &Header {
        self.reader.header()
    }

    /// Reads the next pins, or holds and no pins, and adds them to the state. `None` at the end of the file; the state then
    /// includes the agent status of the last frame.
    pub fn next_pins(&mut self) -> io::Result<Option<Vec<Traced>>> {
        self.holds.clear();
        while let Some(item) = self.reader.next_item()? {
            match item {
                Item::Pins(pins) => {
                    pins.iter().for_each(|pin| self.add(pin));
                    return Ok(Some(pins));
                }
                Item::Holds(holds) => {
                    for hold in &holds {
                        fold_hold::<Alone>(&mut self.state.cells.holds, hold);
                    }
                    self.holds = holds;
                    return Ok(Some(Vec::new()));
                }
                Item::Lost(lost) => self.lost = lost,
                Item::End(end) => {
                    self.lost = end.lost;
                    end.status.apply(&mut self.state);
                    self.end = Some(end);
                }
            }
        }
        Ok(None)
    }

    /// Damage of the recording, as [`Reader::damage`].
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        self.reader.damage()
    }

    fn add(&mut self, traced: &Traced) {
        let pin = &traced.event.pin;
        fold_pin(&mut self.state.cells.pins, pin);
        fold_blockers::<Alone>(&mut self.state.cells.blockers, pin.blockers);
        self.untimed += traced.fold_migrations(&mut self.state.cells.migrate);
        let ended_ns = pin.start_ns.saturating_add(pin.duration_ns);
        self.state.now_ns = self.state.now_ns.max(ended_ns);
    }
}
