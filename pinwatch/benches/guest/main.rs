//! What `cargo xtask bench` runs in a guest. Prints one JSON object per line.

mod agent;
mod hooks;
mod peer;
mod pins;
mod verifier;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pinwatch::kernel::facts::Facts;
use serde_json::json;

use hooks::SETS;
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
    },
    /// What the daemon needs, and its reader of the ring buffer.
    Agent,
    /// What the verifier had to look at, by program.
    Verifier,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Overhead { sets } => overhead(&sets),
        Command::Agent => agent::agent(),
        Command::Verifier => verifier::verifier(),
    }
}

fn overhead(wanted: &[String]) -> Result<()> {
    let facts = Facts::gather();
    let chosen = SETS
        .iter()
        .filter(|set| wanted.is_empty() || wanted.iter().any(|name| name == set.name));
    for set in chosen {
        // Fresh, so that none sees what another has left in memory.
        let mut pins = Pins::new()?;
        let measured = set.attach(&facts, &mut pins).and_then(|mut held| {
            let before = pins.made;
            let mut medians = Vec::new();
            for pin in Pin::ALL {
                medians.push((pin, pins.median(pin, || held.between())?));
            }
            held.detach(pins.made - before)?;
            Ok(medians)
        });
        match measured {
            Ok(medians) => {
                for (pin, clock) in medians {
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
