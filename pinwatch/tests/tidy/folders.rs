//! Imports between the folders of pinwatch.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::Crate;
use super::none;
use super::source::{Source, sources};

/// The folders of `src`, each with the folders that it may import. Without circles and unused entries.
const ARROWS: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("host", &[]),
    ("probe", &["kernel"]),
    ("model", &["kernel", "probe"]),
    ("source", &["host", "kernel", "model", "probe"]),
    ("recording", &["host", "model"]),
    ("stream", &["host", "model", "recording", "source"]),
    ("series", &["host", "kernel", "model", "stream"]),
    ("evaluation", &["host", "model", "probe", "recording"]),
    ("web", &["host"]),
    (
        "output",
        &["evaluation", "kernel", "model", "probe", "source", "stream"],
    ),
    (
        "cli",
        &["evaluation", "host", "model", "probe", "stream", "web"],
    ),
    (
        "cmd",
        &[
            "cli",
            "evaluation",
            "host",
            "kernel",
            "model",
            "output",
            "probe",
            "recording",
            "series",
            "source",
            "stream",
            "web",
        ],
    ),
];

/// An import of one folder's file from another folder.
struct Arrow<'a> {
    from: &'a str,
    to: &'a str,
    source: &'a Source,
    line: usize,
}

fn arrows(sources: &[Source]) -> Vec<Arrow<'_>> {
    let krate = Crate::new(sources);
    let mut found = Vec::new();
    for (n, source) in sources.iter().enumerate() {
        let Some(from) = source.folder() else {
            continue;
        };
        for (target, line) in krate.targets(n) {
            if let Some(to) = sources[target].folder()
                && from != to
            {
                found.push(Arrow {
                    from,
                    to,
                    source,
                    line,
                });
            }
        }
    }
    found
}

/// Findings for imports that [`ARROWS`] does not allow.
fn forbidden(sources: &[Source]) -> Vec<String> {
    let allowed = |folder: &str| ARROWS.iter().find(|(from, _)| *from == folder);
    let unknown = sources.iter().filter_map(|source| {
        let folder = source.folder()?;
        let what = format!("the folder {folder} is not in the table ARROWS");
        allowed(folder).is_none().then(|| source.finding(1, what))
    });
    let arrows = arrows(sources);
    let wrong = arrows.iter().filter_map(
        |Arrow {
             from,
             to,
             source,
             line,
         }| {
            let (_, allowed) = allowed(from)?;
            (!allowed.contains(to))
                .then(|| source.finding(*line, format!("{from}/ may not import {to}/")))
        },
    );
    unknown.chain(wrong).collect()
}

/// A folder that imports itself through others, if there is one.
fn circle(arrows: &[(&'static str, &[&'static str])]) -> Option<&'static str> {
    let mut left: BTreeMap<_, _> = arrows.iter().copied().collect();
    while !left.is_empty() {
        let leaf = left
            .iter()
            .find(|(_, to)| to.iter().all(|to| !left.contains_key(to)));
        match leaf.map(|(folder, _)| *folder) {
            Some(leaf) => left.remove(leaf),
            None => return left.keys().next().copied(),
        };
    }
    None
}

#[test]
fn folders_import_only_what_the_table_allows() {
    none(forbidden(&sources("pinwatch")));
    assert_eq!(circle(ARROWS), None, "the table ARROWS has a circle");
}

#[test]
fn every_allowed_arrow_is_used() {
    let sources = sources("pinwatch");
    let used: BTreeSet<_> = arrows(&sources)
        .iter()
        .map(|arrow| (arrow.from, arrow.to))
        .collect();
    let all = ARROWS.iter();
    let all = all.flat_map(|(from, to)| to.iter().map(move |to| (*from, *to)));
    let unused = all.filter(|arrow| !used.contains(arrow));
    none(unused.map(|(from, to)| {
        format!("ARROWS lets {from}/ import {to}/, but no file does: remove the entry")
    }));
}

#[test]
fn each_rule_finds_its_violation() {
    let found = |name: &str, text: &str| {
        let files = [
            (name, text),
            ("cmd/run.rs", ""),
            ("probe/table.rs", ""),
            ("host/mod.rs", "pub mod x;"),
        ];
        let files = files.map(|(name, text)| Source::new("pinwatch", name, text));
        forbidden(&files).join("\n")
    };
    assert_eq!(
        found("kernel/x.rs", "\nuse crate::probe::table;"),
        "pinwatch/src/kernel/x.rs:2: kernel/ may not import probe/"
    );
    for text in [
        "fn f() { crate::cmd::run::g(); }",
        "use crate::{host, cmd::run};",
        "use super::super::cmd::run;",
        "mod tests { use crate::cmd::run::g; }",
    ] {
        assert!(found("web/x.rs", text).ends_with("import cmd/"), "{text}");
    }
    assert_eq!(
        found("web/mod.rs", "pub use crate::cmd::run;"),
        "pinwatch/src/web/mod.rs:1: web/ may not import cmd/"
    );
    assert_eq!(found("web/x.rs", "// crate::cmd"), "");
    assert!(found("new/x.rs", "").contains("not in the table"));
    assert_eq!(
        circle(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]),
        Some("a")
    );
    assert_eq!(circle(&[("a", &["b"]), ("b", &["c"]), ("c", &[])]), None);
}
