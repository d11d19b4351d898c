//! The subcommands of `cargo xtask bench`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::{agent, overhead, profile, reliability, shapes, user, verifier};

/// Measure pinwatch's overhead and losses, for docs/performance.md and docs/reliability.md
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench overhead
  cargo xtask bench overhead --kernel 6.12 --runs 1 --set nothing --set 'pinwatch, fentry'
  sudo -E cargo xtask bench overhead --here
  cargo xtask bench profile
  cargo xtask bench user
  cargo xtask bench agent
  cargo xtask bench verifier
  cargo xtask bench shapes
  cargo xtask bench reliability --kernel 7.3")]
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
    Shapes(shapes::ShapesArgs),
    Reliability(reliability::ReliabilityArgs),
}

pub fn main(args: &BenchArgs) -> Result<ExitCode> {
    match &args.what {
        What::Overhead(args) => overhead::main(args),
        What::Profile(args) => profile::main(args),
        What::User(args) => user::main(args),
        What::Agent(args) => agent::main(args),
        What::Verifier(args) => verifier::main(args),
        What::Shapes(args) => shapes::main(args),
        What::Reliability(args) => reliability::main(args),
    }
}
