//! What pins do not add up to: the state without its statistics of pins. It goes
//! with a stream of pins, so that whoever has both has the whole state.

use pinwatch_common::counter::LOSSES;
use pinwatch_common::fold::FastCells;
use pinwatch_common::record::{PinEvent, ZONES};
use serde::{Deserialize, Serialize};

use crate::kernel::zones;
use crate::model::portable_pin::Recorded;
use crate::model::state::{Hook, ProgramStats, State};
use crate::model::view;

/// Pins in flight that are kept; a frame has room for more, and the oldest matter.
const IN_FLIGHT: usize = 500;

/// At one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// By `enum zone_type`.
    pub zones: [Option<String>; ZONES],
    pub stuck_after_ns: u64,
    pub hooks: Vec<Hook>,
    pub programs: Vec<ProgramStats>,
    /// What became of each measurement, in words.
    pub plan: Vec<view::Hook>,
    /// By [`Loss`](pinwatch_common::counter::Loss).
    pub losses: [u64; LOSSES],
    /// Calls of GUP-fast: without the slow path, with it, and with its errno hidden.
    pub gup_fast: [u64; 3],
    pub before_start: u64,
    pub claimed: usize,
    pub events_sent: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub now_ns: u64,
    /// The oldest pins in flight.
    pub in_flight: Vec<Recorded>,
}

impl Rest {
    #[must_use]
    pub fn of(state: &State) -> Self {
        let FastCells { fast, slow, hidden } = state.cells.fast;
        let mut in_flight = state.in_flight.clone();
        in_flight.sort_by_key(|pin| pin.start_ns);
        let recorded = |pin| {
            let event = PinEvent { pin, comm: [0; 16] };
            Recorded::new(&event, &[], &mut 0)
        };
        Self {
            zones: state.zones.map(|zone| zone.map(str::to_owned)),
            stuck_after_ns: state.stuck_after_ns,
            hooks: state.hooks.clone(),
            programs: state.programs.clone(),
            plan: view::hooks(state),
            losses: state.cells.losses,
            gup_fast: [fast, slow, hidden],
            before_start: state.before_start,
            claimed: state.claimed,
            events_sent: state.events_sent,
            now_ns: state.now_ns,
            in_flight: in_flight
                .into_iter()
                .take(IN_FLIGHT)
                .map(recorded)
                .collect(),
        }
    }

    /// Puts it into a state, beside its statistics of pins.
    pub fn apply(&self, state: &mut State) {
        let [fast, slow, hidden] = self.gup_fast;
        state.cells.fast = FastCells { fast, slow, hidden };
        state.cells.losses = self.losses;
        state.zones = self
            .zones
            .clone()
            .map(|zone| zones::known(zone.as_deref()?));
        state.stuck_after_ns = self.stuck_after_ns;
        state.hooks.clone_from(&self.hooks);
        state.programs.clone_from(&self.programs);
        state.before_start = self.before_start;
        state.claimed = self.claimed;
        state.events_sent = self.events_sent;
        state.now_ns = self.now_ns;
        let in_flight = self.in_flight.iter();
        state.in_flight = in_flight.map(|pin| pin.event(&mut 0).pin).collect();
    }
}
