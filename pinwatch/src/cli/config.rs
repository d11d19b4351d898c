//! Settings of `pinwatch run`: each flag is also an environment variable and a key of the TOML file
//! of `--config`. All three names come from clap's own arguments, so no flag can be forgotten. A flag
//! overrides the environment, and the environment overrides the file.

#![forbid(unsafe_code)]

mod file;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ArgAction;
use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use crate::cli::Cli;

/// The one command that has settings.
const COMMAND: &str = "run";
/// Flag that names the file. It is not a key of that file.
const FILE: &str = "config";
/// Flag that is neither a variable nor a key: it requests a single check.
const ONLY_FLAG: &str = "check-config";

/// Reason why the arguments give no command to run.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Error in the command line or the environment. `--help` and `--version` end here too.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// Error in the file; the text has its name, the line and the key.
    #[error("{0}")]
    File(String),
}

/// One setting and its three names.
pub struct Setting {
    /// Flag with its dashes, such as `--web.listen-address`.
    pub flag: String,
    /// Environment variable; a list is separated by commas. `None` if only the flag exists.
    pub env: Option<String>,
    /// Key of the file, where each dot begins a table and a list is an array. `None` if the file cannot
    /// have it.
    pub key: Option<String>,
    pub default: String,
    pub help: String,
}

/// Parses the arguments of the process, program name first, together with the environment and the file
/// of `--config`.
///
/// # Errors
///
/// If the command line, the environment or the file is not valid, and for `--help`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Refused> {
    let args: Vec<_> = args.into_iter().collect();
    let command = command();
    let matches = command.clone().try_get_matches_from(&args)?;
    if let Some((COMMAND, run)) = matches.subcommand()
        && let Some(path) = run.get_one::<PathBuf>(FILE)
    {
        let from_file = file::arguments(path, &command, run).map_err(Refused::File)?;
        let at = args.iter().position(|arg| arg == COMMAND);
        let (before, after) = args.split_at(at.map_or(args.len(), |at| at + 1));
        let all = before.iter().chain(&from_file).chain(after);
        return read(&command.try_get_matches_from(all)?);
    }
    read(&matches)
}

fn read(matches: &ArgMatches) -> Result<Cli, Refused> {
    Ok(Cli::from_arg_matches(matches)?)
}

/// Command line of [`Cli`]; each setting of `pinwatch run` also has its environment variable.
#[must_use]
pub fn command() -> Command {
    Cli::command().mut_subcommand(COMMAND, |run| run.mut_args(configured))
}

/// All settings, in the order of `pinwatch run --help`.
#[must_use]
pub fn settings() -> Vec<Setting> {
    let command = command();
    let run = command
        .find_subcommand(COMMAND)
        .expect("the command run exists");
    run.get_arguments().filter_map(setting).collect()
}

fn setting(arg: &Arg) -> Option<Setting> {
    let long = arg.get_long()?;
    let env = arg.get_env().map(|env| env.to_string_lossy().into_owned());
    let defaults = arg.get_default_values().iter();
    let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
    Some(Setting {
        flag: format!("--{long}"),
        env,
        key: in_file(arg).then(|| long.to_owned()),
        default: defaults.join(", "),
        help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
    })
}

fn configured(arg: Arg) -> Arg {
    let Some(long) = arg.get_long().filter(|long| *long != ONLY_FLAG) else {
        return arg;
    };
    let env = format!("PINWATCH_{}", long.to_uppercase().replace(['.', '-'], "_"));
    let arg = arg.env(env).hide_env_values(true);
    if is_list(&arg) {
        return arg.value_delimiter(',');
    }
    arg
}

fn in_file(arg: &Arg) -> bool {
    arg.get_long()
        .is_some_and(|long| ![FILE, ONLY_FLAG].contains(&long))
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

#[cfg(test)]
mod tests;
