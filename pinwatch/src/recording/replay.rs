//! A recording as a source: the state that its pins add up to, by the same fold as live.

use pinwatch_common::fold::fold_pin;

use crate::model::state::State;
use crate::model::trace::Traced;
use crate::recording::{End, Header};

/// What was replayed so far.
pub struct Replayed {
    pub state: State,
    /// Calls of `migrate_pages` that live gave a time to and the recording does not:
    /// those of passes that were not told one by one. Their histogram misses them.
    pub untimed: u64,
}

impl Replayed {
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let mut state = State::empty(&header.start.release, &header.start.era);
        header.start.rest.apply(&mut state);
        // Those in flight then are among the pins to come.
        state.in_flight.clear();
        state.claimed = 0;
        Self { state, untimed: 0 }
    }

    /// Adds a pin.
    pub fn add(&mut self, traced: &Traced) {
        let pin = &traced.event.pin;
        fold_pin(&mut self.state.cells.pins, pin);
        self.untimed += traced.fold_migrations(&mut self.state.cells.migrate);
        let ended_ns = pin.start_ns.saturating_add(pin.duration_ns);
        self.state.now_ns = self.state.now_ns.max(ended_ns);
    }

    /// Brings it to its end.
    pub fn end(&mut self, end: &End) {
        end.rest.apply(&mut self.state);
    }
}
