//! Agent status that cannot be recomputed from pins: plan, hooks, losses, pins in flight.
//!
//! Feeds and recordings carry it beside the pins. Both together give the whole [`State`].
#![forbid(unsafe_code)]

use pinwatch_common::cells::FastCells;
use pinwatch_common::loss::LOSSES;
use pinwatch_common::place::{PLACES, PlaceCells};
use pinwatch_common::record::{Pin, PinEvent};
use pinwatch_common::weak::Holder;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::format::name;
use super::places::PlaceNames;
use super::stall::Stall;
use super::thread::{Thread, Threads};
use crate::kernel::{folios, zones};
use crate::model::bounded::at_most;
use crate::model::portable_pin::PortablePin;
use crate::model::state::{Hook, ProgramStats, State};
use crate::model::view;

/// Maximum length of [`AgentStatus::in_flight`]. They fit into one frame. Hung pins are the oldest.
const IN_FLIGHT: usize = 500;

/// Maximum length of the other lists: a later version can have more hooks and programs than this one.
const LISTED: usize = 1024;

/// Agent status at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Zone names by `enum zone_type`.
    pub zones: [Option<String>; PLACES],
    /// Names of the types of pageblocks by `enum migratetype`.
    #[serde(default)]
    pub pageblocks: [Option<String>; PLACES],
    pub stuck_after_ns: u64,
    #[serde(deserialize_with = "at_most::<_, _, LISTED>")]
    pub hooks: Vec<Hook>,
    #[serde(deserialize_with = "at_most::<_, _, LISTED>")]
    pub programs: Vec<ProgramStats>,
    /// Status of each hook and measurement.
    #[serde(deserialize_with = "at_most::<_, _, LISTED>")]
    pub plan: Vec<view::HookLine>,
    /// Counts by [`Loss`](pinwatch_common::loss::Loss).
    #[serde(serialize_with = "list", deserialize_with = "padded")]
    pub losses: [u64; LOSSES],
    /// Long-term calls of GUP-fast: those that finished alone, those that took the slow path, and the
    /// hidden failures among the latter. Then the first two of short-term calls.
    #[serde(deserialize_with = "padded")]
    pub gup_fast: [u64; 5],
    /// Sampled unpinnable pages.
    #[serde(default)]
    pub unpinnable: PlaceCells,
    pub before_start: u64,
    pub claimed: usize,
    pub events_sent: u64,
    /// Time of the status, in nanoseconds of `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// The oldest pins in flight, oldest first.
    #[serde(deserialize_with = "at_most::<_, _, IN_FLIGHT>")]
    pub in_flight: Vec<InFlight>,
}

/// A recorded pin in flight: the fields of a pin that ended, and its phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    #[serde(flatten)]
    pin: PortablePin,
    /// Number of the running [`Phase`](pinwatch_common::record::Phase); 0 in older recordings.
    #[serde(default)]
    phase: u8,
    /// [`Pin::outcome`]; `None` in older recordings, whose counts show it.
    #[serde(default)]
    outcome: Option<u8>,
    #[serde(default, flatten)]
    stall: Stall,
}

impl InFlight {
    fn new(pin: Pin, thread: &Thread, stall: Stall) -> Self {
        let name = thread.comm.as_deref().unwrap_or_default().as_bytes();
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().zip(name) {
            *to = *from;
        }
        let event = PinEvent {
            pin,
            comm,
            holder: Holder::NONE,
        };
        Self {
            pin: PortablePin::new(&event, &[], &mut 0),
            phase: pin.phase,
            outcome: Some(pin.outcome),
            stall,
        }
    }

    fn event(&self) -> PinEvent {
        let mut event = self.pin.event(&mut 0);
        event.pin.phase = self.phase;
        event.pin.outcome = self.outcome.unwrap_or(event.pin.outcome);
        event
    }
}

impl AgentStatus {
    /// Status of the agent in a state, with the oldest 500 pins in flight.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let FastCells {
            fast,
            slow,
            hidden,
            short_fast,
            short_slow,
        } = state.cells.fast;
        let mut in_flight = state.in_flight.clone();
        in_flight.sort_by_key(|pin| pin.start_ns);
        let recorded =
            |pin: Pin| InFlight::new(pin, &state.threads.get(pin.tid), state.stall(&pin));
        Self {
            zones: state.zones.map(|zone| zone.map(str::to_owned)),
            pageblocks: state.pageblocks.map(|name| name.map(str::to_owned)),
            stuck_after_ns: state.stuck_after_ns,
            hooks: state.hooks.clone(),
            programs: state.programs.clone(),
            plan: view::hooks(state),
            losses: state.cells.losses,
            gup_fast: [fast, slow, hidden, short_fast, short_slow],
            unpinnable: state.cells.unpinnable,
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

    /// Names of zones and of types of pageblocks.
    #[must_use]
    pub fn place_names(&self) -> PlaceNames {
        let zones = self.zones.each_ref();
        let pageblocks = self.pageblocks.each_ref();
        PlaceNames {
            zones: zones.map(|name| zones::known(name.as_deref()?)),
            pageblocks: pageblocks.map(|name| folios::known_pageblock(name.as_deref()?)),
        }
    }

    /// Overwrites the agent status of a state. Keeps its statistics of pins.
    pub fn apply(&self, state: &mut State) {
        let [fast, slow, hidden, short_fast, short_slow] = self.gup_fast;
        state.cells.unpinnable = self.unpinnable;
        state.cells.fast = FastCells {
            fast,
            slow,
            hidden,
            short_fast,
            short_slow,
        };
        state.cells.losses = self.losses;
        let PlaceNames { zones, pageblocks } = self.place_names();
        (state.zones, state.pageblocks) = (zones, pageblocks);
        state.stuck_after_ns = self.stuck_after_ns;
        state.hooks.clone_from(&self.hooks);
        state.decisions = view::decisions(&self.plan);
        state.programs.clone_from(&self.programs);
        state.before_start = self.before_start;
        state.claimed = self.claimed;
        state.events_sent = self.events_sent;
        state.now_ns = self.now_ns;
        let in_flight = self.in_flight.iter().map(InFlight::event);
        let in_flight: Vec<_> = in_flight.collect();
        let names = in_flight
            .iter()
            .zip(&self.in_flight)
            .map(|(event, recorded)| {
                let comm = Some(name(&event.comm)).filter(|name| !name.is_empty());
                let thread = Thread {
                    comm,
                    ..Thread::default()
                };
                (event.pin.tid, (thread, recorded.stall))
            });
        state.threads = Threads::Recorded(names.collect());
        state.in_flight = in_flight.into_iter().map(|event| event.pin).collect();
    }
}

fn list<S: Serializer>(counts: &[u64; LOSSES], out: S) -> Result<S::Ok, S::Error> {
    counts.as_slice().serialize(out)
}

/// Earlier recordings have fewer counts: the others are 0.
fn padded<'de, D: Deserializer<'de>, const N: usize>(input: D) -> Result<[u64; N], D::Error> {
    let counts = at_most::<_, u64, N>(input)?;
    let mut padded = [0; N];
    padded[..counts.len()].copy_from_slice(&counts);
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytemuck::Zeroable as _;
    use pinwatch_common::record::Phase;

    use super::*;
    use crate::model::in_flight::rows;
    use crate::model::stall::{Behind, Moment};
    use crate::model::thread::Observe;

    /// A state with a pin in flight whose thread id exists on this machine.
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

    /// A thread that faults without progress.
    #[derive(Debug)]
    struct Qemu;

    impl Observe for Qemu {
        fn thread(&self, _: u32) -> Thread {
            Thread {
                comm: Some("qemu".to_owned()),
                ..Thread::default()
            }
        }

        fn stall(&self, _: &Pin, _: &Moment<'_>) -> Stall {
            Stall {
                faults: Some(7_000),
                sleeps: false,
                behind: Some(Behind {
                    uninterruptible: 5,
                    mmap_lock: Some(4),
                }),
            }
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
            threads: Threads::Live(Arc::new(Qemu)),
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
    fn observations_of_a_thread_are_replayed() {
        let mut live = State {
            threads: Threads::Live(Arc::new(Qemu)),
            ..state()
        };
        live.in_flight[0].phase = Phase::Gup as u8;
        let replayed = replayed(&serde_json::to_string(&AgentStatus::of(&live)).expect("JSON"));
        assert_eq!(rows(&replayed, 1), rows(&live, 1));
        let activity = &rows(&replayed, 1)[0].activity;
        assert!(
            activity.starts_with("faulting without progress: 7000 "),
            "{activity}"
        );
        assert!(
            activity.ends_with("; 4 other threads of the process wait for mmap_lock"),
            "{activity}"
        );
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
