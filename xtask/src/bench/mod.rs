//! `cargo xtask bench`: what watching costs, measured so that it repeats. Each kind of measurement
//! has a file of its own and writes its tables into docs/performance.md.

mod agent;
mod aims;
mod document;
mod figures;
pub mod floor;
mod hottest;
mod machine;
mod overhead;
mod peers;
mod profile;
mod user;
mod verifier;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Measure what watching costs, and write it into docs/performance.md
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench overhead
  cargo xtask bench overhead --kernel 6.12 --runs 1 --set nothing --set 'pinwatch, fentry'
  sudo -E cargo xtask bench overhead --here
  cargo xtask bench profile
  cargo xtask bench user
  cargo xtask bench agent
  cargo xtask bench verifier")]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Overhead(overhead::OverheadArgs),
    Profile(profile::ProfileArgs),
    User(user::UserArgs),
    Agent(agent::AgentArgs),
    Verifier(verifier::VerifierArgs),
}

pub fn main(args: &BenchArgs) -> Result<ExitCode> {
    match &args.what {
        What::Overhead(args) => overhead::main(args),
        What::Profile(args) => profile::main(args),
        What::User(args) => user::main(args),
        What::Agent(args) => agent::main(args),
        What::Verifier(args) => verifier::main(args),
    }
}
