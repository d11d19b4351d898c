//! Agent status that cannot be recomputed from pins: plan, hooks, losses, pins in flight. It
//! goes with a stream of pins, so that a follower that has both has the whole state.

use pinwatch_common::fold::FastCells;
use pinwatch_common::loss::LOSSES;
use pinwatch_common::record::{Pin, PinEvent, ZONES};
use serde::{Deserialize, Serialize};

use super::format::name;
use super::thread::{Thread, Threads};
use crate::kernel::zones;
use crate::model::portable_pin::PortablePin;
use crate::model::state::{Hook, ProgramStats, State};
use crate::model::view;

/// Pins in flight that are kept; a frame has room for more, and the oldest matter.
const IN_FLIGHT: usize = 500;

/// At one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// By `enum zone_type`.
    pub zones: [Option<String>; ZONES],
    pub stuck_after_ns: u64,
    pub hooks: Vec<Hook>,
    pub programs: Vec<ProgramStats>,
    /// What became of each measurement.
    pub plan: Vec<view::HookLine>,
    /// By [`Loss`](pinwatch_common::loss::Loss).
    pub losses: [u64; LOSSES],
    /// Calls of GUP-fast: without the slow path, with it, and with its errno hidden.
    pub gup_fast: [u64; 3],
    pub before_start: u64,
    pub claimed: usize,
    pub events_sent: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub now_ns: u64,
    /// The oldest pins in flight.
    pub in_flight: Vec<InFlight>,
}

/// A pin in flight: what is kept of one that ended, and what only one in flight has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    #[serde(flatten)]
    pin: PortablePin,
    /// [`Phase`](pinwatch_common::record::Phase), by number; older recordings have none.
    #[serde(default)]
    phase: u8,
}

impl InFlight {
    fn new(pin: Pin, thread: &Thread) -> Self {
        let name = thread.comm.as_deref().unwrap_or_default().as_bytes();
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().zip(name) {
            *to = *from;
        }
        let event = PinEvent { pin, comm };
        Self {
            pin: PortablePin::new(&event, &[], &mut 0),
            phase: pin.phase,
        }
    }

    fn event(&self) -> PinEvent {
        let mut event = self.pin.event(&mut 0);
        event.pin.phase = self.phase;
        event
    }
}

impl AgentStatus {
    #[must_use]
    pub fn of(state: &State) -> Self {
        let FastCells { fast, slow, hidden } = state.cells.fast;
        let mut in_flight = state.in_flight.clone();
        in_flight.sort_by_key(|pin| pin.start_ns);
        let recorded = |pin: Pin| InFlight::new(pin, &state.threads.get(pin.tid));
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
        let in_flight = self.in_flight.iter().map(InFlight::event);
        let in_flight: Vec<_> = in_flight.collect();
        let names = in_flight.iter().map(|event| {
            let comm = Some(name(&event.comm)).filter(|name| !name.is_empty());
            let thread = Thread {
                comm,
                ..Thread::default()
            };
            (event.pin.tid, thread)
        });
        state.threads = Threads::Recorded(names.collect());
        state.in_flight = in_flight.into_iter().map(|event| event.pin).collect();
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use pinwatch_common::record::Phase;

    use super::*;
    use crate::model::in_flight::rows;

    /// A pin of a thread that this machine has too.
    fn state() -> State {
        let tid = std::process::id();
        let pin = Pin {
            tid,
            tgid: tid,
            start_ns: 7,
            passes: 3,
            unpinnable: 9,
            migrate_calls: 1,
            phase: Phase::Migrate as u8,
            ..Pin::zeroed()
        };
        State {
            in_flight: vec![pin],
            ..State::empty("6.12", "folios")
        }
    }

    fn replayed(json: &str) -> State {
        let status: AgentStatus = serde_json::from_str(json).expect("it was written so");
        let mut state = State::empty("6.12", "folios");
        status.apply(&mut state);
        state
    }

    #[test]
    fn a_pin_in_flight_is_replayed_as_it_was() {
        let live = State {
            threads: Threads::Live(|_| Thread {
                comm: Some("qemu".to_owned()),
                ..Thread::default()
            }),
            ..state()
        };
        let replayed = replayed(&serde_json::to_string(&AgentStatus::of(&live)).expect("JSON"));
        assert_eq!(replayed.in_flight, live.in_flight);
        assert_eq!(rows(&replayed, 1), rows(&live, 1));
        let [row] = &rows(&replayed, 1)[..] else {
            panic!("one pin");
        };
        assert_eq!(row.phase, "migrate");
        assert!(row.activity.starts_with("inside migration"), "{row:?}");
    }

    #[test]
    fn a_replayed_pin_has_no_name_of_a_thread_of_this_machine() {
        let replayed = replayed(&serde_json::to_string(&AgentStatus::of(&state())).expect("JSON"));
        assert_eq!(rows(&replayed, 1)[0].thread, Thread::default());
    }

    #[test]
    fn older_recordings_have_no_phase() {
        let mut json = serde_json::to_value(AgentStatus::of(&state())).expect("JSON");
        let pin = json["in_flight"][0].as_object_mut().expect("a pin");
        assert_eq!(pin.remove("phase"), Some(3.into()));
        let replayed = replayed(&json.to_string());
        assert_eq!(replayed.in_flight[0].phase, Phase::Gup as u8);
        assert_eq!(replayed.in_flight[0].passes, 3);
    }
}
