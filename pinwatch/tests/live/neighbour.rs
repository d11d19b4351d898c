//! Pins beside another BPF agent: a short form of `cargo xtask bench reliability`.

use super::daemon::Daemon;
use super::maps::{MapUser, Operations};
use super::round::Round;
use super::wait::{PATIENCE, wait_until};

const PINS: u64 = 1440;

/// Makes pins while threads update a map, from before the load until after it. Panics if a pin is neither
/// counted nor reported as lost.
fn beside_map_updates(followed: bool) -> Round {
    let daemon = Daemon::start(&[]);
    let neighbour = MapUser::start(Operations::Updates);
    wait_until("the neighbour's first call", PATIENCE, || {
        neighbour.calls() > 0
    });
    let before = neighbour.calls();
    let round = Round::make(&daemon, followed);
    let updates = neighbour.calls() - before;
    println!("{updates} updates, {round:?}");
    assert!(updates > PINS, "the neighbour was idle: {updates} updates");
    assert_eq!(round.made, PINS);
    assert_eq!(round.in_flight, 0);
    assert_eq!(round.unaccounted, 0, "{} seen", round.seen);
    let may_be_lost = daemon.metrics().may_lose(PINS);
    assert!(round.lost <= may_be_lost, "{} lost", round.lost);
    round
}

#[test]
#[ignore = "needs a kernel that preempts BPF programs"]
fn every_pin_is_counted_or_reported_as_lost() {
    beside_map_updates(false);
}

#[test]
#[ignore = "needs a kernel that preempts BPF programs"]
fn every_event_lies_inside_its_system_call() {
    let round = beside_map_updates(true);
    let events = round.events.expect("a follower");
    assert_eq!((events.invented, events.strays), (0, 0), "{events:?}");
    assert_eq!(events.matched + events.lost, round.seen, "{events:?}");
    assert!(events.longest_ns <= events.longest_call_ns, "{events:?}");
}
