//! The program that `cargo xtask bench` runs in a guest. Prints one JSON object per line.

mod agent;
mod hooks;
mod neighbours;
mod noise;
mod pins;
mod reliability;
mod ring;
mod session;
mod soak;
mod tool;
mod verifier;

/// Modules of the live tests.
#[path = "../../tests/live"]
mod live {
    #![allow(dead_code, reason = "the live tests use more of them")]
    pub mod daemon;
    #[path = "../support/shapes.rs"]
    pub mod every_shape;
    pub mod follower;
    pub mod leftovers;
    pub mod load;
    pub mod maps;
    pub mod reads;
    pub mod round;
    pub mod shapes;
    #[path = "../support/wait.rs"]
    pub mod wait;
    pub mod watchers;
}

use anyhow::{Result, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::table::wanted;
use serde_json::json;

use hooks::{HookSet, PARTS, SETS};
use neighbours::NeighbourKind;
use pins::{PinKind, Pins};

/// Measures the cost of pinwatch in a guest of `cargo xtask bench`.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Time of a pin with each set of hooks, in ticks of the processor's clock.
    Overhead {
        /// Measure only this set of hooks (repeatable).
        #[arg(long = "set", value_parser = PossibleValuesParser::new(SETS.iter().map(|set| set.name)))]
        sets: Vec<String>,
        /// Print nanoseconds of a machine on which equal prices differ by this share.
        #[arg(long, value_name = "SHARE")]
        nanoseconds: Option<f64>,
    },
    /// How much this machine disturbs measurements in nanoseconds.
    Noise,
    /// Parts of the cost that pinwatch adds to a pin of one page and to a short-term pin.
    Profile,
    /// Memory, wake-ups and processor time of the daemon, and the speed of its ring-buffer reader.
    Agent {
        /// The part to measure (repeatable).
        #[arg(long = "part", required = true)]
        parts: Vec<agent::Part>,
    },
    /// Instructions that the verifier processed, by program.
    Verifier,
    /// Each program in each shape that a plan can choose.
    Shapes,
    /// Pins that are lost or get a wrong duration beside another program.
    Reliability {
        /// The other program (repeatable).
        #[arg(long = "neighbour", required = true)]
        neighbours: Vec<NeighbourKind>,
        /// Number of rounds with a follower. One more round has none.
        #[arg(long)]
        rounds: u32,
    },
    /// Random loads, kills, readers and neighbours, for some minutes.
    Soak {
        #[arg(long)]
        minutes: u32,
        /// The same seed makes the same choices.
        #[arg(long)]
        seed: u64,
        /// Programs that start and stop beside pinwatch (repeatable).
        #[arg(long = "neighbour", required = true)]
        neighbours: Vec<NeighbourKind>,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Overhead { sets, nanoseconds } => {
            let wanted =
                |set: &&HookSet| sets.is_empty() || sets.iter().any(|name| name == set.name);
            let sets = SETS.iter().filter(wanted);
            match nanoseconds {
                Some(_) => measure(sets, &Vec::from_iter(PinKind::here()), nanoseconds),
                None => measure(sets, &PinKind::ALL, None),
            }
        }
        Command::Noise => {
            println!("{}", noise::noise()?);
            Ok(())
        }
        Command::Profile => measure(PARTS, &[PinKind::One, PinKind::ShortTerm], None),
        Command::Agent { parts } => parts.into_iter().try_for_each(agent::agent),
        Command::Verifier => verifier::verifier(),
        Command::Shapes => {
            let outcome = live::shapes::verify(u32::MAX, |n, of| {
                if n % 50 == 0 {
                    eprintln!("{n} of {of} shapes");
                }
            })?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
        Command::Reliability { neighbours, rounds } => {
            reliability::reliability(&neighbours, rounds);
            Ok(())
        }
        Command::Soak {
            minutes,
            seed,
            neighbours,
        } => soak::soak(minutes, seed, &neighbours),
    }
}

/// Prints the price of each kind of pin with each set of hooks: in nanoseconds, if `tolerance` is the share by which
/// equal prices differ, else in instructions.
fn measure<'a>(
    sets: impl IntoIterator<Item = &'a HookSet>,
    kinds: &[PinKind],
    tolerance: Option<f64>,
) -> Result<()> {
    let unit = tolerance.map_or(1.0, |_| pins::ticks_per_ns());
    let facts = Facts::gather(&wanted());
    for set in sets {
        // New memory for each set, so that all begin alike.
        let mut pins = Pins::tolerating(tolerance)?;
        let measured = set.attach(&facts, &mut pins).and_then(|mut held| {
            let before = pins.made;
            let mut prices = Vec::new();
            for &pin in kinds {
                let price = pins.price(pin, || held.between())?;
                ensure!(
                    price.is_steady,
                    "more than a tenth of the pins took far from the median: repeat on an idle machine"
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
