//! Pins beside a neighbour: rounds of the load, each compared with what pinwatch measured.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::hooks::PIN_PATH;
use super::live::daemon::{Daemon, Metrics};
use super::live::round::Round;
use super::neighbours::{Kind, Neighbour};

/// With each neighbour: so many rounds with a follower, and one without.
pub fn reliability(neighbours: &[Kind], rounds: u32) {
    for &kind in neighbours {
        let value = kind.to_possible_value();
        let name = value.as_ref().map_or("", |value| value.get_name());
        let tell = |what: &str, value: Value| {
            println!("{}", json!({ "neighbour": name, what: value }));
        };
        eprintln!("neighbour {name}: starting");
        let done = beside(kind, rounds, |round, hooks| {
            eprintln!(
                "neighbour {name}: {} pins, {} seen, {} counted as lost",
                round.made, round.seen, round.lost
            );
            tell("round", json!({ "hooks": hooks, "counts": round }));
        });
        if let Err(error) = done {
            tell("error", format!("{error:#}").into());
        }
    }
}

fn beside(kind: Kind, rounds: u32, each: impl Fn(&Round, &str)) -> Result<()> {
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

/// The kinds of hook on the pin path.
fn hooks(metrics: &Metrics) -> String {
    let on_path = format!("hook=\"{PIN_PATH}\"");
    let kinds: BTreeSet<_> = metrics
        .series("pinwatch_probe_attached")
        .filter(|(labels, attached)| labels.contains(&on_path) && *attached == 1.0)
        .filter_map(|(labels, _)| labels.split_once("kind=\"")?.1.split('"').next())
        .collect();
    kinds.into_iter().collect::<Vec<_>>().join(", ")
}
