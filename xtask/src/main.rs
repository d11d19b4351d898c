//! Developer commands of pinwatch: `cargo xtask`.
//!
//! Each command has a file or a folder of its own. They share `guest` (a stock kernel that runs a command in
//! QEMU), `debian` (packages and kernels), `build`, `setup`, `cache` and `child`.

mod arch;
mod bench;
mod build;
mod cache;
mod child;
mod debian;
mod dist;
mod evaluate;
mod facts;
mod fuzz;
mod generate;
mod guest;
mod kernel;
mod question;
mod run;
mod setup;
mod soak;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::child::Interrupted;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Builds, runs and tests pinwatch"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::SetupArgs),
    Run(run::RunArgs),
    Test(test::TestArgs),
    Vm(vm::VmArgs),
    Facts(facts::FactsArgs),
    Bench(bench::BenchArgs),
    Kernel(kernel::KernelArgs),
    Evaluate(Box<evaluate::EvaluateArgs>),
    Question(question::QuestionArgs),
    Fuzz(fuzz::FuzzArgs),
    Soak(soak::SoakArgs),
    Docs(generate::DocsArgs),
    Dist(dist::DistArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = child::catch_signals().and_then(|()| match cli.command {
        Command::Setup(args) => setup::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Test(args) => test::main(&args),
        Command::Vm(args) => vm::main(&args),
        Command::Facts(args) => facts::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Kernel(args) => kernel::main(&args),
        Command::Evaluate(args) => evaluate::main(&args),
        Command::Question(args) => question::main(&args),
        Command::Fuzz(args) => fuzz::main(&args),
        Command::Soak(args) => soak::main(&args),
        Command::Docs(args) => generate::main(&args),
        Command::Dist(args) => dist::main(&args),
    });
    match done {
        Ok(code) => code,
        Err(error) if error.is::<Interrupted>() => Interrupted::STATUS.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
