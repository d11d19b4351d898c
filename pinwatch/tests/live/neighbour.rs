//! Pins beside another BPF agent: a short form of `cargo xtask bench reliability`.

use super::daemon::Daemon;
use super::maps::{MapUser, Operations};
use super::round::Round;
use super::wait::{PATIENCE, wait_until};

/// Pins of one round.
const PINS: u64 = 1440;
/// Losses come in bursts: one burst can exceed the limit of one round, but not that of all.
const ROUNDS: u64 = 6;

/// Makes pins while threads update a map, from before the load until after it. Panics if a pin is neither
/// counted nor reported as lost.
fn beside_map_updates(daemon: &Daemon, followed: bool) -> Round {
    let neighbour = MapUser::start(Operations::Updates);
    wait_until("the neighbour's first call", PATIENCE, || {
        neighbour.calls() > 0
    });
    let before = neighbour.calls();
    let round = Round::make(daemon, followed);
    let updates = neighbour.calls() - before;
    println!("{updates} updates, {round:?}");
    assert!(updates > PINS, "the neighbour was idle: {updates} updates");
    assert_eq!(round.made, PINS);
    assert_eq!(round.in_flight, 0);
    assert_eq!(round.unaccounted, 0, "{} seen", round.seen);
    round
}

#[test]
#[ignore = "needs a kernel that preempts BPF programs"]
fn every_pin_is_counted_or_reported_as_lost() {
    let daemon = Daemon::start(&[]);
    let (mut made, mut lost) = (0, 0);
    for _ in 0..ROUNDS {
        let round = beside_map_updates(&daemon, false);
        made += round.made;
        lost += round.lost;
        if lost <= daemon.metrics().may_lose(made) {
            return;
        }
    }
    panic!("{lost} of {made} pins lost");
}

#[test]
#[ignore = "needs a kernel that preempts BPF programs"]
fn every_event_lies_inside_its_system_call() {
    let daemon = Daemon::start(&[]);
    let round = beside_map_updates(&daemon, true);
    let events = round.events.expect("a follower");
    assert_eq!((events.invented, events.strays), (0, 0), "{events:?}");
    assert_eq!(events.matched + events.lost, round.seen, "{events:?}");
    assert!(events.longest_ns <= events.longest_call_ns, "{events:?}");
}
