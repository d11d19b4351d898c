//! Rounds of pins beside each neighbour: compares the load's own log with the measurements.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::live::daemon::{Daemon, Metrics};
use super::live::round::Round;
use super::neighbours::{Neighbour, NeighbourKind};
use super::pins::PIN_PATH;

/// Prints, for each neighbour, `rounds` rounds with a follower and one without.
pub fn reliability(neighbours: &[NeighbourKind], rounds: u32) {
    for &kind in neighbours {
        let value = kind.to_possible_value();
        let name = value.as_ref().map_or("", |value| value.get_name());
        let print = |what: &str, value: Value| {
            println!("{}", json!({ "neighbour": name, what: value }));
        };
        eprintln!("neighbour {name}: starting");
        let done = beside(kind, rounds, |round, hooks| {
            eprintln!(
                "neighbour {name}: {} pins, {} seen, {} counted as lost",
                round.made, round.seen, round.lost
            );
            print("round", json!({ "hooks": hooks, "counts": round }));
        });
        if let Err(error) = done {
            print("error", format!("{error:#}").into());
        }
    }
}

/// Calls `each` with every round and the kinds of hook on the pin path.
fn beside(kind: NeighbourKind, rounds: u32, each: impl Fn(&Round, &str)) -> Result<()> {
    let daemon = Daemon::start(&[]);
    let hooks = hooks(&daemon.metrics());
    let mut neighbour = Neighbour::start(kind)?;
    for round in 0..=rounds {
        let before = neighbour.progress()?;
        let round = Round::make(&daemon, round < rounds);
        neighbour.check_works_since(before)?;
        each(&round, &hooks);
    }
    neighbour.stop()
}

/// The kinds of the attached hooks on the pin path.
fn hooks(metrics: &Metrics) -> String {
    let on_path = format!("hook=\"{PIN_PATH}\"");
    let kinds: BTreeSet<_> = metrics
        .series("pinwatch_probe_attached")
        .filter(|(labels, attached)| labels.contains(&on_path) && *attached == 1.0)
        .filter_map(|(labels, _)| labels.split_once("kind=\"")?.1.split('"').next())
        .collect();
    kinds.into_iter().collect::<Vec<_>>().join(", ")
}
