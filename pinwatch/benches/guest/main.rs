//! What `cargo xtask bench` runs in a guest. Prints one JSON object per line.

mod agent;
mod hooks;
mod neighbours;
mod peer;
mod pins;
mod reliability;
mod ring;
mod verifier;

/// Parts of the live tests.
#[path = "../../tests/live"]
mod live {
    #![allow(dead_code, reason = "the live tests use more of them")]
    pub mod daemon;
    pub mod follower;
    pub mod load;
    pub mod maps;
    pub mod round;
    #[path = "../support/wait.rs"]
    pub mod wait;
}

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::table::wanted;
use serde_json::json;

use hooks::{PARTS, SETS, Set};
use neighbours::Kind;
use pins::{Pin, Pins};

/// Measures what watching costs, in a guest of `cargo xtask bench`.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What a pin costs with each set of hooks, by the processor's clock.
    Overhead {
        /// This set of hooks only (repeatable).
        #[arg(long = "set")]
        sets: Vec<String>,
        /// In nanoseconds, where the processor's clock counts no instructions.
        #[arg(long)]
        nanoseconds: bool,
    },
    /// The parts of what pinwatch adds to a pin of one page, and to a short-term one.
    Profile,
    /// What the daemon needs, and its reader of the ring buffer.
    Agent,
    /// What the verifier had to look at, by program.
    Verifier,
    /// Pins that are missed, or get a wrong duration, beside another program.
    Reliability {
        /// The programs (repeatable).
        #[arg(long = "neighbour", required = true)]
        neighbours: Vec<Kind>,
        /// Rounds with a follower; one more has none.
        #[arg(long)]
        rounds: u32,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Overhead { sets, nanoseconds } => {
            // Whether a tool of others is attached is told by a price that is steady.
            let by_default = |set: &Set| !(nanoseconds && set.is_a_program());
            let wanted = |set: &&Set| match &sets[..] {
                [] => by_default(set),
                names => names.iter().any(|name| name == set.name),
            };
            let unit = if nanoseconds {
                pins::ticks_per_ns()
            } else {
                1.0
            };
            measure(SETS.iter().filter(wanted), &Pin::ALL, unit)
        }
        Command::Profile => measure(PARTS, &[Pin::One, Pin::ShortTerm], 1.0),
        Command::Agent => agent::agent(),
        Command::Verifier => verifier::verifier(),
        Command::Reliability { neighbours, rounds } => {
            reliability::reliability(&neighbours, rounds);
            Ok(())
        }
    }
}

/// `unit` is so many ticks of the processor's clock.
fn measure<'a>(sets: impl IntoIterator<Item = &'a Set>, kinds: &[Pin], unit: f64) -> Result<()> {
    let facts = Facts::gather(&wanted());
    for set in sets {
        // Fresh, so that none sees what another has left in memory.
        let mut pins = Pins::new()?;
        let measured = set.attach(&facts, &mut pins).and_then(|mut held| {
            let before = pins.made;
            let mut prices = Vec::new();
            for &pin in kinds {
                let price = pins.price(pin, || held.between())?;
                ensure!(
                    price.is_steady,
                    "more than a tenth of the pins is far from the others"
                );
                prices.push((pin, price.ticks));
            }
            held.detach(pins.made - before)?;
            Ok(prices)
        });
        match measured {
            Ok(prices) => {
                for (pin, ticks) in prices {
                    let clock = (ticks as f64 / unit).round() as u64;
                    println!(
                        "{}",
                        json!({ "set": set.name, "pair": set.pair, "pin": pin, "clock": clock })
                    );
                }
            }
            Err(error) => {
                println!(
                    "{}",
                    json!({ "set": set.name, "error": format!("{error:#}") })
                )
            }
        }
    }
    Ok(())
}
