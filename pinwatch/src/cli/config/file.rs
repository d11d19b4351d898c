//! The TOML file: each of its keys as the argument that says the same.

use std::ffi::OsString;
use std::path::Path;

use clap::builder::ArgAction;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::host::bounded_file;

/// The command that can be configured.
pub const COMMAND: &str = "run";
/// Names the file, so that it cannot be in it.
pub const FILE: &str = "config";
/// What is asked for once is asked for by a flag.
pub const ONLY_FLAG: &str = "check-config";

/// One key.
struct Entry<'a> {
    /// With the tables that it is in.
    key: String,
    at: usize,
    value: &'a DeValue<'a>,
}

/// What the file says and neither a flag nor the environment does. Everything in it
/// is verified all the same.
pub fn arguments(
    path: &Path,
    command: &Command,
    given: &ArgMatches,
) -> Result<Vec<OsString>, String> {
    let text =
        bounded_file::read_text(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let wrong = |at: usize, what: &str| {
        let line = text[..at].matches('\n').count() + 1;
        format!("{}:{line}: {what}", path.display())
    };
    let table = DeTable::parse(&text);
    let table =
        table.map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message()))?;
    let mut entries = Vec::new();
    flatten(table.get_ref(), "", &mut entries);
    entries.sort_by_key(|entry| entry.at);

    let run = command.find_subcommand(COMMAND).expect("it is there");
    let known = || run.get_arguments().filter(|arg| in_file(arg));
    let mut arguments = Vec::new();
    for Entry { key, at, value } in &entries {
        let Some(arg) = known().find(|arg| arg.get_long() == Some(key)) else {
            return Err(wrong(*at, &format!("{key}: there is no such key")));
        };
        let made = made(arg, value).map_err(|what| wrong(*at, &format!("{key}: {what}")))?;
        let program = [command.get_name(), COMMAND].map(OsString::from);
        let alone = command
            .clone()
            .try_get_matches_from(program.iter().chain(&made));
        alone.map_err(|error| wrong(*at, &format!("{key}: {}", brief(&error))))?;
        let source = given.value_source(arg.get_id().as_str());
        if !matches!(
            source,
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        ) {
            arguments.extend(made);
        }
    }
    Ok(arguments)
}

fn flatten<'a>(table: &'a DeTable<'a>, prefix: &str, entries: &mut Vec<Entry<'a>>) {
    for (key, value) in table {
        let at = key.span().start;
        let key = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            // An empty one would not be looked at.
            DeValue::Table(inner) if !inner.is_empty() => {
                flatten(inner, &format!("{key}."), entries);
            }
            value => entries.push(Entry { key, at, value }),
        }
    }
}

/// The arguments that say the same as a value.
fn made(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let long = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        let said = value.as_bool().ok_or("true or false is needed")?;
        return Ok(said
            .then(|| format!("--{long}").into())
            .into_iter()
            .collect());
    }
    let values = match value {
        DeValue::Array(values) if is_list(arg) => values.iter().map(Spanned::get_ref).collect(),
        value => vec![value],
    };
    let arguments = values.into_iter().map(|value| match value {
        DeValue::String(text) => Ok(format!("--{long}={text}").into()),
        DeValue::Integer(number) if number.radix() == 10 => {
            Ok(format!("--{long}={}", number.as_str()).into())
        }
        value if is_list(arg) => Err(format!(
            "a list of strings is needed, not {}",
            value.type_str()
        )),
        value => Err(format!("a string is needed, not {}", value.type_str())),
    });
    arguments.collect()
}

/// What clap says, without how to ask for help.
fn brief(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = text
        .trim_start_matches("error: ")
        .split_whitespace()
        .collect();
    words.join(" ")
}

pub fn in_file(arg: &Arg) -> bool {
    arg.get_long()
        .is_some_and(|long| ![FILE, ONLY_FLAG].contains(&long))
}

pub fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}
