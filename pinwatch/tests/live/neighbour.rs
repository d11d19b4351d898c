//! Beside another BPF agent: a short `cargo xtask bench reliability`.

use super::daemon::Daemon;
use super::maps::{MapUser, Use};
use super::round::Round;
use super::wait::{PATIENCE, wait_until};

const PINS: u64 = 1440;
/// Losses come in bursts: while preempted tasks are inside all programs of a hook on one CPU, every pin
/// there is lost. Beside other guests on the same host that lasts. `cargo xtask bench reliability` holds
/// one in a thousand, over four rounds.
const MAY_BE_LOST: u64 = PINS / 100;

/// Pins beside threads that update a map, which run until after the load.
fn beside_map_updates(followed: bool) -> Round {
    let daemon = Daemon::start(&[]);
    let neighbour = MapUser::start(Use::Updates);
    wait_until("the neighbour's first call", PATIENCE, || {
        neighbour.calls() > 0
    });
    let before = neighbour.calls();
    let round = Round::make(&daemon, followed);
    let updates = neighbour.calls() - before;
    println!("{updates} updates, {round:?}");
    assert!(updates > PINS, "an idle neighbour: {updates} updates");
    round
}

fn assert_counted(round: &Round) {
    assert_eq!(round.made, PINS);
    assert_eq!(round.in_flight, 0);
    assert_eq!(round.unaccounted, 0, "{} seen", round.seen);
    assert!(round.lost <= MAY_BE_LOST, "{} lost", round.lost);
}

#[test]
#[ignore = "needs a kernel that preempts BPF programs"]
fn counts() {
    assert_counted(&beside_map_updates(false));
}

#[test]
#[ignore = "needs a kernel that preempts BPF programs"]
fn durations() {
    let round = beside_map_updates(true);
    assert_counted(&round);
    let events = round.events.expect("a follower");
    assert_eq!((events.invented, events.strays), (0, 0), "{events:?}");
    assert_eq!(events.matched + events.lost, round.seen, "{events:?}");
    assert!(events.longest_ns <= events.longest_call_ns, "{events:?}");
}
