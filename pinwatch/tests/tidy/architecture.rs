//! docs/architecture.md lists every module.

use std::collections::BTreeSet;
use std::fs;

use super::none;
use super::source::{CRATES, Source, repository, sources};

/// Name of a module in docs/architecture.md. Modules of `pinwatch` have no prefix.
fn listed_name(source: &Source) -> String {
    let path = source.name.strip_suffix(".rs").expect("a Rust file");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match source.path.split_once('/').expect("a crate").0 {
        "pinwatch" => path.to_owned(),
        krate => format!(
            "{}/{path}",
            krate.strip_prefix("pinwatch-").unwrap_or(krate)
        ),
    }
}

fn first(name: &str) -> &str {
    name.split_once('/').map_or(name, |(first, _)| first)
}

/// Modules that docs/architecture.md does not list, and rows without a module.
fn wrongly_listed(sources: &[Source], architecture: &str) -> Vec<String> {
    let modules = sources.iter().filter(|source| !source.is_tests());
    let modules: BTreeSet<_> = modules.map(listed_name).collect();
    let known: BTreeSet<_> = modules.iter().map(|name| first(name)).collect();
    let is_module = |name: &&str| {
        name.chars()
            .all(|c| c.is_alphanumeric() || "_/".contains(c))
    };
    let names = architecture
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0));
    let names = names.filter(|name| known.contains(first(name)) && !CRATES.contains(name));
    let listed: BTreeSet<_> = names.filter(is_module).map(str::to_owned).collect();
    let missing = modules
        .difference(&listed)
        .map(|name| format!("docs/architecture.md does not list `{name}`"));
    let gone = listed
        .difference(&modules)
        .map(|name| format!("docs/architecture.md: there is no module `{name}`"));
    missing.chain(gone).collect()
}

#[test]
fn the_architecture_lists_exactly_the_modules_that_exist() {
    let path = repository().join("docs/architecture.md");
    let text = fs::read_to_string(path).expect("docs/architecture.md");
    none(
        CRATES
            .iter()
            .flat_map(|krate| wrongly_listed(&sources(krate), &text)),
    );
}

#[test]
fn missing_and_superfluous_rows_are_found() {
    let files = ["lib.rs", "a/mod.rs", "a/b.rs"].map(|name| Source::new("x", name, ""));
    let found = wrongly_listed(
        &files,
        "| `x/lib` | |\n| `x/a` | |\n| `x/c` | |\n| `y/d` | |",
    );
    assert_eq!(
        found,
        [
            "docs/architecture.md does not list `x/a/b`",
            "docs/architecture.md: there is no module `x/c`"
        ]
    );
    let files = [Source::new("pinwatch", "web/x.rs", "")];
    let found = wrongly_listed(&files, "| `web/x` | |\n| `web/y` | |\n| `z/y` | |");
    assert_eq!(found, ["docs/architecture.md: there is no module `web/y`"]);
}
