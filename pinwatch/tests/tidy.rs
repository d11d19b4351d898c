//! Rules for the sources of pinwatch. docs/architecture.md gives the reasons. Each finding names file and
//! line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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

/// Files that may contain `unsafe`. Each block gives its reason.
const UNSAFE: &[&str] = &[
    "host/calibration.rs",
    "host/heap.rs",
    "host/privileges.rs",
    "host/systemd.rs",
    "kernel/perf_event.rs",
    "source/diagnostics.rs",
    "source/events.rs",
    "source/shared_memory.rs",
    "source/stack.rs",
];

/// Words that must not occur in a folder: I/O, clocks, tokio, aya, reads that fail on a byte that is not UTF-8.
const WITHOUT: &[(&str, &[&str])] = &[
    (
        "model/",
        &[
            "std::fs",
            "std::net",
            "Instant",
            "SystemTime",
            "tokio",
            "aya",
        ],
    ),
    ("evaluation/", &["tokio", "aya"]),
    ("recording/", &["tokio", "aya"]),
    ("web/", &["aya"]),
    ("output/", &["aya"]),
    ("series/", &["aya"]),
    // A thread's name can end inside a character: `kernel::procfs::read` replaces the rest of it.
    ("kernel/", &["fs::read_to_string"]),
    ("source/", &["fs::read_to_string"]),
    ("series/", &["fs::read_to_string"]),
    ("stream/", &["aya"]),
];

/// Folders that must not decide anything by the name of a BPF program.
const NO_NAMES: &[&str] = &["probe/", "source/"];

const MOST_LINES: usize = 400;

/// Tables, one row after the other, which may exceed [`MOST_LINES`].
const TABLES: &[&str] = &["output/metrics/table.rs", "probe/table.rs"];

/// A source file.
struct Source {
    /// Relative to `src`.
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn folder(&self) -> Option<&str> {
        self.path.split_once('/').map(|(folder, _)| folder)
    }

    fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs")
    }

    fn module(&self) -> &str {
        let path = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        path.strip_suffix("/mod").unwrap_or(path)
    }

    /// Lines with their numbers, from 1, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.map(|(n, line)| {
            let comment = line
                .match_indices("//")
                .find(|(at, _)| !line[..*at].ends_with(':'));
            (n + 1, &line[..comment.map_or(line.len(), |(at, _)| at)])
        })
    }

    fn finding(&self, line: usize, what: impl AsRef<str>) -> String {
        format!("pinwatch/src/{}:{line}: {}", self.path, what.as_ref())
    }
}

fn sources() -> Vec<Source> {
    fn collect(folder: &Path, root: &Path, found: &mut Vec<Source>) {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut entries: Vec<PathBuf> = entries.map(|entry| entry.expect("read").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                collect(&path, root, found);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let name = path.strip_prefix(root).expect("inside").to_str();
                let text = fs::read_to_string(&path).expect("text");
                found.push(Source::new(name.expect("UTF-8"), &text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    found
}

/// Panics with the findings if there are any.
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// Whether a text contains a whole word.
fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(inside) && !after.starts_with(inside)
    })
}

/// The identifier at the beginning of a text.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The first name after each `crate::` of a line, also in groups such as `crate::{a, b::c}`.
fn imports(line: &str) -> Vec<&str> {
    let behind = line
        .match_indices("crate::")
        .map(|(at, path)| &line[at + path.len()..]);
    behind
        .flat_map(|path| match path.strip_prefix('{') {
            Some(group) => group.split(',').map(|part| word(part.trim())).collect(),
            None => vec![word(path)],
        })
        .collect()
}

/// The other folders that a file imports, with line numbers.
fn arrows(source: &Source) -> Vec<(usize, String)> {
    let known = |name: &&str| ARROWS.iter().any(|(folder, _)| folder == name);
    let Some(from) = source.folder() else {
        return Vec::new();
    };
    let lines = source.code().flat_map(|(n, line)| {
        let names = imports(line).into_iter();
        names.map(move |name| (n, name))
    });
    let others = lines.filter(|(_, name)| known(name) && *name != from);
    others.map(|(n, name)| (n, name.to_owned())).collect()
}

/// Findings for imports that [`ARROWS`] does not allow.
fn forbidden_arrows(source: &Source) -> Vec<String> {
    let Some(from) = source.folder() else {
        return Vec::new();
    };
    let allowed = ARROWS.iter().find(|(folder, _)| *folder == from);
    let Some((_, allowed)) = allowed else {
        return vec![source.finding(1, format!("the folder {from} is not in the table ARROWS"))];
    };
    let arrows = arrows(source).into_iter();
    let wrong = arrows.filter(|(_, to)| !allowed.contains(&to.as_str()));
    wrong
        .map(|(n, to)| source.finding(n, format!("{from}/ may not import {to}/")))
        .collect()
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

/// Findings for `unsafe` in files that are not in [`UNSAFE`].
fn wrong_unsafe(source: &Source) -> Vec<String> {
    if UNSAFE.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let begins = |line: &str| {
        let mut behind = line.match_indices("unsafe ").map(|(at, word)| {
            let before = line[..at].chars().next_back();
            (before, line[at + word.len()..].trim_start())
        });
        behind.any(|(before, after)| {
            let items = ["{", "fn", "impl", "extern", "trait"];
            before.is_none_or(|c| !c.is_alphanumeric() && c != '-' && c != '_')
                && items.iter().any(|item| after.starts_with(item))
        })
    };
    let lines = source.code().filter(|(_, line)| begins(line));
    lines
        .map(|(n, _)| source.finding(n, "`unsafe` outside the files that may have it (UNSAFE)"))
        .collect()
}

/// Findings for words of [`WITHOUT`].
fn forbidden_words(source: &Source) -> Vec<String> {
    let rules = WITHOUT.iter().filter(|(at, _)| source.path.starts_with(at));
    let words = rules.flat_map(|(at, words)| words.iter().map(move |word| (at, word)));
    let found = words.flat_map(|(at, word)| {
        let lines = source.code().filter(|(_, line)| has_word(line, word));
        lines.map(move |(n, _)| source.finding(n, format!("{at} must not use {word}")))
    });
    found.collect()
}

/// Findings for calls such as `program.starts_with(...)`, also over several lines.
fn decisions_by_name(source: &Source) -> Vec<String> {
    const LOOKS: [&str; 5] = [
        "starts_with",
        "ends_with",
        "contains",
        "strip_prefix",
        "strip_suffix",
    ];
    if !NO_NAMES.iter().any(|at| source.path.starts_with(at)) {
        return Vec::new();
    }
    let (mut text, mut lines) = (String::new(), Vec::new());
    for (n, line) in source.code() {
        let line: String = line.split_whitespace().collect();
        lines.resize(lines.len() + line.len(), n);
        text.push_str(&line);
    }
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let looks = LOOKS.iter().flat_map(|look| text.match_indices(*look));
    let by_name = looks.filter(|(at, look)| {
        let before = text[..*at].strip_suffix('.').unwrap_or_default();
        // Only the last identifier counts: `program.names().starts_with` is allowed.
        let name = before.rsplit(|c| !inside(c)).next().unwrap_or_default();
        let is_call = text[at + look.len()..].starts_with('(');
        is_call && matches!(name, "program" | "programs" | "program_name")
    });
    by_name
        .map(|(at, look)| {
            let what = format!("decides by a program's name (`{look}`): give the row a field");
            source.finding(lines[at], what)
        })
        .collect()
}

/// A finding if a file has more than [`MOST_LINES`] lines before its tests.
fn too_long(source: &Source) -> Option<String> {
    if source.is_tests() || TABLES.contains(&source.path.as_str()) {
        return None;
    }
    let lines: Vec<_> = source.text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests"));
    let count = tests.unwrap_or(lines.len());
    (count > MOST_LINES).then(|| {
        let what = format!("{count} lines; more than {MOST_LINES} only in tables (TABLES)");
        source.finding(MOST_LINES + 1, what)
    })
}

/// Findings for items in a `mod.rs` other than documentation, modules and re-exports.
fn more_than_modules(source: &Source) -> Vec<String> {
    if !source.path.ends_with("/mod.rs") {
        return Vec::new();
    }
    let begins = ["mod ", "pub mod ", "use ", "pub use ", "#[cfg(test)]"];
    let mut inside = false;
    let mut found = Vec::new();
    for (n, line) in source.code() {
        let line = line.trim();
        if !inside && !line.is_empty() && !begins.iter().any(|begin| line.starts_with(begin)) {
            found.push(source.finding(n, "a mod.rs holds documentation and modules only"));
        }
        inside = (inside || line.contains('{')) && !line.contains('}');
    }
    found
}

fn architecture() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md");
    fs::read_to_string(path).expect("docs/architecture.md")
}

/// A finding if docs/architecture.md does not list the module.
fn unlisted(source: &Source, architecture: &str) -> Option<String> {
    if source.is_tests() {
        return None;
    }
    let name = format!("`{}`", source.module());
    let missing = !architecture.contains(&name);
    missing.then(|| source.finding(1, format!("docs/architecture.md does not list {name}")))
}

/// Findings for modules that docs/architecture.md lists and that do not exist.
fn nonexistent(modules: &BTreeSet<&str>, architecture: &str) -> Vec<String> {
    let lines = architecture.lines().enumerate();
    let rows = lines.filter_map(|(n, line)| {
        let name = line.strip_prefix("| `")?.split_once('`')?.0;
        let is_module = name
            .chars()
            .all(|c| c.is_alphanumeric() || "_/".contains(c));
        let folder = name.split('/').next()?;
        let known = ARROWS.iter().any(|(known, _)| *known == folder);
        (is_module && known && !modules.contains(name)).then_some((n + 1, name))
    });
    rows.map(|(n, name)| format!("docs/architecture.md:{n}: there is no module `{name}`"))
        .collect()
}

#[test]
fn folders_import_only_what_the_table_allows() {
    let found: Vec<_> = sources().iter().flat_map(forbidden_arrows).collect();
    none(&found);
    assert_eq!(circle(ARROWS), None, "the table ARROWS has a circle");
}

#[test]
fn every_allowed_arrow_is_used() {
    let mut used = BTreeSet::new();
    for source in sources() {
        let from = source.folder().unwrap_or_default().to_owned();
        let arrows = arrows(&source).into_iter();
        used.extend(arrows.map(|(_, to)| (from.clone(), to)));
    }
    let all = ARROWS.iter();
    let all = all.flat_map(|(from, to)| to.iter().map(move |to| (*from, *to)));
    let unused = all.filter(|(from, to)| !used.contains(&((*from).to_owned(), (*to).to_owned())));
    let unused = unused.map(|(from, to)| {
        format!("pinwatch/tests/tidy.rs: ARROWS lets {from}/ import {to}/, but no file does: remove the entry")
    });
    none(&unused.collect::<Vec<_>>());
}

#[test]
fn unsafe_code_is_only_in_listed_files() {
    let sources = sources();
    none(&sources.iter().flat_map(wrong_unsafe).collect::<Vec<_>>());
    let needless = UNSAFE.iter().filter(|path| {
        let source = sources.iter().find(|source| source.path == **path);
        !source.is_some_and(|source| source.code().any(|(_, line)| has_word(line, "unsafe")))
    });
    let needless = needless.map(|path| {
        format!(
            "pinwatch/tests/tidy.rs: UNSAFE lists {path}, which has no `unsafe`: remove the entry"
        )
    });
    none(&needless.collect::<Vec<_>>());
}

#[test]
fn folders_use_no_forbidden_word() {
    none(
        &sources()
            .iter()
            .flat_map(forbidden_words)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn nothing_is_decided_by_the_name_of_a_program() {
    none(
        &sources()
            .iter()
            .flat_map(decisions_by_name)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn only_tables_exceed_the_line_limit() {
    none(&sources().iter().filter_map(too_long).collect::<Vec<_>>());
}

#[test]
fn mod_files_only_list_modules() {
    none(
        &sources()
            .iter()
            .flat_map(more_than_modules)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_architecture_lists_exactly_the_modules_that_exist() {
    let (sources, text) = (sources(), architecture());
    let mut found: Vec<_> = sources.iter().filter_map(|s| unlisted(s, &text)).collect();
    found.extend(nonexistent(
        &sources.iter().map(Source::module).collect(),
        &text,
    ));
    none(&found);
}

/// Applies each rule to a file that breaks it.
#[test]
fn each_rule_finds_its_violation() {
    let at = |path: &str, text: &str| Source::new(path, text);
    let line = |source: Source, rule: fn(&Source) -> Vec<String>| rule(&source).join("\n");
    let found = line(
        at("kernel/x.rs", "\nuse crate::probe::table;"),
        forbidden_arrows,
    );
    assert_eq!(
        found,
        "pinwatch/src/kernel/x.rs:2: kernel/ may not import probe/"
    );
    for text in ["let x = crate::cmd::run();", "use crate::{host, cmd::run};"] {
        assert!(line(at("web/x.rs", text), forbidden_arrows).ends_with("import cmd/"));
    }
    assert_eq!(line(at("web/x.rs", "// crate::cmd"), forbidden_arrows), "");
    assert!(line(at("new/x.rs", ""), forbidden_arrows).contains("not in the table"));
    assert_eq!(
        circle(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]),
        Some("a")
    );
    assert_eq!(circle(&[("a", &["b"]), ("b", &["c"]), ("c", &[])]), None);

    let found = line(at("cmd/x.rs", "    let x = unsafe { f() };"), wrong_unsafe);
    assert!(
        found.starts_with("pinwatch/src/cmd/x.rs:1: `unsafe` outside"),
        "{found}"
    );
    assert_eq!(
        line(
            at("cmd/x.rs", "\"style-src 'unsafe-inline'\""),
            wrong_unsafe
        ),
        ""
    );

    let found = line(at("model/x.rs", "use std::time::Instant;"), forbidden_words);
    assert_eq!(
        found,
        "pinwatch/src/model/x.rs:1: model/ must not use Instant"
    );

    let text = "let x = 1;\nhook\n    .program\n    .starts_with(prefix)";
    let found = line(at("probe/x.rs", text), decisions_by_name);
    assert!(
        found.starts_with("pinwatch/src/probe/x.rs:4: decides by a program's name"),
        "{found}"
    );
    assert_eq!(line(at("cli/x.rs", text), decisions_by_name), "");

    let long = "x\n".repeat(401);
    let found = too_long(&at("web/x.rs", &long)).expect("it is too long");
    assert!(
        found.starts_with("pinwatch/src/web/x.rs:401: 401 lines"),
        "{found}"
    );
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{long}", "x\n".repeat(400));
    assert_eq!(too_long(&at("web/x.rs", &tested)), None);

    let found = line(
        at(
            "web/mod.rs",
            "pub mod a;\npub use a::{\n    B,\n};\nfn f() {}",
        ),
        more_than_modules,
    );
    assert!(found.starts_with("pinwatch/src/web/mod.rs:5: "), "{found}");

    let found = unlisted(&at("web/x.rs", ""), "`web/y`").expect("it is not listed");
    assert_eq!(
        found,
        "pinwatch/src/web/x.rs:1: docs/architecture.md does not list `web/x`"
    );
    let found = nonexistent(&BTreeSet::from(["web/x"]), "| `web/x` | |\n| `web/y` | |");
    assert_eq!(
        found,
        ["docs/architecture.md:2: there is no module `web/y`"]
    );
}
