//! TOML file of `--config`, translated key by key into command-line arguments.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;

use clap::builder::ArgAction;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{COMMAND, in_file, is_list};
use crate::host::bounded_file;

/// One key of the file with its value.
struct Entry<'a> {
    /// Full name, with the names of its tables: `web.config.file`.
    key: String,
    /// Offset in the text, in bytes.
    at: usize,
    value: &'a DeValue<'a>,
}

/// Arguments for the keys of the file that neither a flag nor a variable sets. Every key is checked,
/// including those that are overridden.
///
/// # Errors
///
/// If the file cannot be read, is not TOML, or has an unknown key or an invalid value. The text names
/// the file, the line and the key.
pub fn arguments(
    path: &Path,
    command: &Command,
    given: &ArgMatches,
) -> Result<Vec<OsString>, String> {
    let text =
        bounded_file::read_text(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let error_at = |at: usize, message: &str| {
        let line = text[..at].matches('\n').count() + 1;
        format!("{}:{line}: {message}", path.display())
    };
    let table = DeTable::parse(&text);
    let table = table
        .map_err(|error| error_at(error.span().map_or(0, |span| span.start), error.message()))?;
    let mut entries = Vec::new();
    flatten(table.get_ref(), "", &mut entries);
    entries.sort_by_key(|entry| entry.at);

    let run = command
        .find_subcommand(COMMAND)
        .expect("the command run exists");
    let known = || run.get_arguments().filter(|arg| in_file(arg));
    let mut arguments = Vec::new();
    for Entry { key, at, value } in &entries {
        let Some(arg) = known().find(|arg| arg.get_long() == Some(key)) else {
            return Err(error_at(
                *at,
                &format!("{key}: unknown key; docs/configuration.md lists the keys"),
            ));
        };
        let translated =
            translate(arg, value).map_err(|message| error_at(*at, &format!("{key}: {message}")))?;
        let program = [command.get_name(), COMMAND].map(OsString::from);
        let alone = command
            .clone()
            .try_get_matches_from(program.iter().chain(&translated));
        alone.map_err(|error| error_at(*at, &format!("{key}: {}", brief(&error))))?;
        let source = given.value_source(arg.get_id().as_str());
        if !matches!(
            source,
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        ) {
            arguments.extend(translated);
        }
    }
    Ok(arguments)
}

fn flatten<'a>(table: &'a DeTable<'a>, prefix: &str, entries: &mut Vec<Entry<'a>>) {
    for (key, value) in table {
        let at = key.span().start;
        let key = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            // An empty table must become an entry, or a misspelled table name would be accepted.
            DeValue::Table(inner) if !inner.is_empty() => {
                flatten(inner, &format!("{key}."), entries);
            }
            value => entries.push(Entry { key, at, value }),
        }
    }
}

/// Arguments equivalent to a value; none for `false`.
fn translate(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let long = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        let given = value.as_bool().ok_or("expected true or false")?;
        return Ok(given
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
            "expected a list of strings, found {}",
            value.type_str()
        )),
        value => Err(format!("expected a string, found {}", value.type_str())),
    });
    arguments.collect()
}

/// clap's message on one line, without the hint to `--help`.
fn brief(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = text
        .trim_start_matches("error: ")
        .split_whitespace()
        .collect();
    words.join(" ")
}
