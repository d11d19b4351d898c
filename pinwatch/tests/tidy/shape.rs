//! Files are short, and a `mod.rs` only lists modules.

use super::imports::Content;
use super::none;
use super::source::{CRATES, Source, sources};

const MOST_LINES: usize = 400;

/// Long, but one row after the other.
const TABLES: &[&str] = &[
    "pinwatch-common/src/fold.rs",
    "pinwatch-load/src/scenarios.rs",
    "pinwatch/src/output/metrics/table.rs",
    "pinwatch/src/probe/table.rs",
    "xtask/src/generate/dashboards/host.rs",
];

/// A finding if a file has more than [`MOST_LINES`] lines without the tests at its end.
fn too_long(source: &Source) -> Option<String> {
    if source.is_tests() || TABLES.contains(&source.path.as_str()) {
        return None;
    }
    let lines: Vec<_> = source.text.lines().collect();
    let mut pairs = lines.windows(2);
    let tests = pairs.position(|pair| pair[0] == "#[cfg(test)]" && pair[1].contains("mod tests"));
    let ends = |tests: usize| {
        lines[tests..]
            .iter()
            .position(|line| ["}", "mod tests;"].contains(line))
    };
    let count = match tests {
        Some(tests) if ends(tests) == Some(lines.len() - tests - 1) => tests,
        _ => lines.len(),
    };
    let what = format!("{count} lines; more than {MOST_LINES} only in tables (TABLES)");
    (count > MOST_LINES).then(|| source.finding(MOST_LINES + 1, what))
}

/// A finding for the first item in a `mod.rs` other than documentation, modules and imports.
fn more_than_modules(source: &Source) -> Option<String> {
    if !source.name.ends_with("/mod.rs") {
        return None;
    }
    let line = Content::of(source).first_item?;
    Some(source.finding(line, "a mod.rs holds documentation and modules only"))
}

#[test]
fn only_tables_exceed_the_line_limit() {
    let sources = CRATES.iter().flat_map(|krate| sources(krate));
    none(sources.filter_map(|source| too_long(&source)));
}

#[test]
fn mod_files_only_list_modules() {
    none(sources("pinwatch").iter().filter_map(more_than_modules));
}

#[test]
fn each_rule_finds_its_violation() {
    let long = "x\n".repeat(MOST_LINES + 1);
    let found = too_long(&Source::new("x", "a.rs", &long)).unwrap_or_default();
    assert!(found.starts_with("x/src/a.rs:401: 401 lines"), "{found}");
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}");
    assert_eq!(too_long(&Source::new("x", "a.rs", &tests)), None);
    let behind = Source::new("x", "a.rs", &(tests + "\nfn f() {}"));
    assert!(too_long(&behind).is_some());

    let text = "//! A\npub mod a;\npub use a::{\n    B,\n};\nfn f() {}";
    let found = more_than_modules(&Source::new("x", "web/mod.rs", text)).unwrap_or_default();
    assert!(found.starts_with("x/src/web/mod.rs:6: "), "{found}");
    let text = text.strip_suffix("fn f() {}").expect("its end");
    assert_eq!(
        more_than_modules(&Source::new("x", "web/mod.rs", text)),
        None
    );
}
