//! One round of pins: compares the load's own log with the metrics and with a follower's events.

use pinwatch_common::record::PinEvent;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;

use super::daemon::{Daemon, Metrics};
use super::follower::Follower;
use super::load::load;
use super::wait::{PATIENCE, wait_for};

/// Counts of one round: from the load, from the metrics, and from a follower's events.
#[derive(Debug, Serialize)]
pub struct Round {
    /// Pins that the load has made.
    pub made: u64,
    /// Growth of `pinwatch_pins_total`.
    pub seen: u64,
    /// Growth of `pinwatch_pins_lost_total`, or 0 if the metric does not exist.
    pub lost: u64,
    /// `made - seen - lost`.
    pub unaccounted: i64,
    /// Pins still in flight after the load.
    pub in_flight: u64,
    /// Growth of `pinwatch_unmatched_total`.
    pub unmatched: u64,
    /// Runs that the kernel skipped or missed: growth of `pinwatch_program_skips_total`, and of
    /// `pinwatch_events_lost_total`.
    pub skipped: u64,
    /// `None` without a follower.
    pub events: Option<EventCounts>,
}

/// A follower's events, each compared with the system call that it belongs to.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventCounts {
    /// Lies inside a system call that has no other event.
    pub matched: u64,
    /// Begins inside its system call and ends after it.
    pub invented: u64,
    /// Belongs to no system call, or to one that has an event already.
    pub strays: u64,
    /// Not delivered: the ring buffer was full, or the follower fell behind.
    pub lost: u64,
    /// Duration of the longest event.
    pub longest_ns: u64,
    /// Duration of the longest system call.
    pub longest_call_ns: u64,
}

/// A system call of the load, which makes one pin.
struct Call {
    tid: u32,
    started_ns: u64,
    ended_ns: u64,
}

impl Round {
    /// Makes the 1,440 pins of the scenario `threads`.
    pub fn make(daemon: &Daemon, followed: bool) -> Self {
        let before = daemon.metrics();
        let follower = followed.then(Follower::start);
        let outcome = load(&["threads"]);
        let after = settled(daemon);
        let followed = follower.map(Follower::finish);

        let calls: Vec<_> = outcome.pins.iter().map(Call::of).collect();
        let grown = after.since(&before);
        let count = |name: &str, label: &str| grown.sum(&format!("pinwatch_{name}"), label) as u64;
        let made = outcome.summary["expected_pins"]
            .as_u64()
            .expect("a summary");
        let (seen, lost) = (count("pins_total", ""), count("pins_lost_total", ""));
        Self {
            made,
            seen,
            lost,
            unaccounted: made as i64 - seen as i64 - lost as i64,
            in_flight: after.total("pinwatch_pins_in_flight") as u64,
            unmatched: count("unmatched_total", ""),
            skipped: count("program_skips_total", "") + count("events_lost_total", "missed:"),
            events: followed.map(|followed| EventCounts {
                lost: followed.lost.total(),
                ..EventCounts::compare(&calls, &followed.pins)
            }),
        }
    }
}

/// The metrics once no pin is in flight.
fn settled(daemon: &Daemon) -> Metrics {
    wait_for("the end of all pins in flight", PATIENCE, || {
        let metrics = daemon.metrics();
        (metrics.total("pinwatch_pins_in_flight") == 0.0).then_some(metrics)
    })
}

impl Call {
    fn of(pin: &Value) -> Self {
        let number = |key: &str| pin[key].as_u64().expect("a number");
        Self {
            tid: number("tid") as u32,
            started_ns: number("started_ns"),
            ended_ns: number("ended_ns"),
        }
    }
}

impl EventCounts {
    /// Matches each event with the call of its thread in which it begins.
    fn compare(calls: &[Call], events: &[PinEvent]) -> Self {
        let mut of_thread: HashMap<u32, Vec<(&Call, bool)>> = HashMap::new();
        for call in calls {
            of_thread.entry(call.tid).or_default().push((call, false));
        }
        let longest = calls.iter().map(|call| call.ended_ns - call.started_ns);
        let mut compared = Self {
            longest_call_ns: longest.max().unwrap_or_default(),
            ..Self::default()
        };
        for PinEvent { pin, .. } in events {
            compared.longest_ns = compared.longest_ns.max(pin.duration_ns);
            let mut calls = of_thread.get_mut(&pin.tid).into_iter().flatten();
            let call =
                calls.find(|(call, _)| (call.started_ns..=call.ended_ns).contains(&pin.start_ns));
            match call {
                None | Some((_, true)) => compared.strays += 1,
                Some((call, has_event)) => {
                    *has_event = true;
                    if pin.start_ns + pin.duration_ns > call.ended_ns {
                        compared.invented += 1;
                    } else {
                        compared.matched += 1;
                    }
                }
            }
        }
        compared
    }
}

#[test]
fn events_are_matched_with_the_calls_of_their_thread() {
    use bytemuck::Zeroable as _;
    use pinwatch_common::record::Pin;

    let call = |tid, started_ns, ended_ns| Call {
        tid,
        started_ns,
        ended_ns,
    };
    let calls = [call(1, 100, 200), call(1, 300, 400), call(2, 100, 150)];
    let event = |tid, start_ns, duration_ns| PinEvent {
        holder: pinwatch_common::weak::Holder::NONE,
        pin: Pin {
            tid,
            start_ns,
            duration_ns,
            ..Pin::zeroed()
        },
        comm: [0; 16],
    };
    let events = [
        event(1, 110, 80),
        // A second event of the first call.
        event(1, 120, 10),
        // Ends after its call: paired with the return of a later call.
        event(2, 120, 900),
        // Between two calls, and of an unknown thread.
        event(1, 250, 10),
        event(3, 110, 10),
    ];
    let expected = EventCounts {
        matched: 1,
        invented: 1,
        strays: 3,
        lost: 0,
        longest_ns: 900,
        longest_call_ns: 100,
    };
    assert_eq!(EventCounts::compare(&calls, &events), expected);
}
