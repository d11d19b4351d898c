//! Where `unsafe` and some names are allowed in pinwatch.

use super::imports::Content;
use super::none;
use super::source::{Source, sources};
use super::tokens::Token;

/// Files that may contain `unsafe`. Each block gives its reason.
const UNSAFE: &[&str] = &[
    "host/calibration.rs",
    "host/heap.rs",
    "host/privileges.rs",
    "host/systemd.rs",
    "kernel/bpf_program.rs",
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

/// Findings for `unsafe` in files that are not in [`UNSAFE`].
fn wrong_unsafe(source: &Source) -> Vec<String> {
    if UNSAFE.contains(&source.name.as_str()) {
        return Vec::new();
    }
    let items = ["{", "fn", "impl", "extern", "trait"];
    let tokens = source.tokens();
    let found = tokens
        .windows(2)
        .filter(|pair| pair[0].text == "unsafe" && items.contains(&pair[1].text));
    found
        .map(|pair| {
            source.finding(
                pair[0].line,
                "`unsafe` outside the files that may have it (UNSAFE)",
            )
        })
        .collect()
}

/// Findings for paths of [`WITHOUT`], also in groups such as `std::{fs, io}`.
fn forbidden_words(source: &Source) -> Vec<String> {
    let rules = WITHOUT.iter().filter(|(at, _)| source.name.starts_with(at));
    let content = Content::of(source);
    let mut found = Vec::new();
    for (at, word) in rules.flat_map(|(at, words)| words.iter().map(move |word| (at, *word))) {
        let word_path: Vec<_> = word.split("::").collect();
        let named = content.named.iter();
        let with_word = named.filter(|named| {
            named
                .path
                .windows(word_path.len())
                .any(|part| part == word_path)
        });
        found.extend(
            with_word.map(|named| source.finding(named.line, format!("{at} must not use {word}"))),
        );
    }
    found
}

/// Findings for calls such as `program.starts_with(...)`.
fn decisions_by_name(source: &Source) -> Vec<String> {
    const LOOKS: [&str; 5] = [
        "starts_with",
        "ends_with",
        "contains",
        "strip_prefix",
        "strip_suffix",
    ];
    if !NO_NAMES.iter().any(|at| source.name.starts_with(at)) {
        return Vec::new();
    }
    let tokens = source.tokens();
    let calls = tokens.windows(4).filter_map(|four| {
        let [name, dot, look, open] = four else {
            return None;
        };
        let is_name = matches!(name.text, "program" | "programs" | "program_name");
        let is_look = dot.text == "." && open.text == "(" && LOOKS.contains(&look.text);
        (is_name && is_look).then_some(look)
    });
    calls
        .map(|Token { text, line }| {
            let what = format!("decides by a program's name (`{text}`): give the row a field");
            source.finding(*line, what)
        })
        .collect()
}

#[test]
fn unsafe_code_is_only_in_listed_files() {
    let sources = sources("pinwatch");
    none(sources.iter().flat_map(wrong_unsafe));
    let needless = UNSAFE.iter().filter(|name| {
        let source = sources.iter().find(|source| source.name == **name);
        !source.is_some_and(|source| source.tokens().iter().any(|token| token.text == "unsafe"))
    });
    none(
        needless
            .map(|name| format!("UNSAFE lists {name}, which has no `unsafe`: remove the entry")),
    );
}

#[test]
fn folders_use_no_forbidden_word() {
    none(sources("pinwatch").iter().flat_map(forbidden_words));
}

#[test]
fn nothing_is_decided_by_the_name_of_a_program() {
    none(sources("pinwatch").iter().flat_map(decisions_by_name));
}

#[test]
fn each_rule_finds_its_violation() {
    let found = |name: &str, text: &str, rule: fn(&Source) -> Vec<String>| {
        rule(&Source::new("pinwatch", name, text)).join("\n")
    };
    let text = "    let x = unsafe { f() };";
    let finding = found("cmd/x.rs", text, wrong_unsafe);
    assert!(
        finding.starts_with("pinwatch/src/cmd/x.rs:1: `unsafe` outside"),
        "{finding}"
    );
    for text in [
        "\"style-src 'unsafe-inline'\"",
        "// unsafe { }",
        "#![forbid(unsafe_code)]",
    ] {
        assert_eq!(found("cmd/x.rs", text, wrong_unsafe), "");
    }

    assert_eq!(
        found("model/x.rs", "use std::time::Instant;", forbidden_words),
        "pinwatch/src/model/x.rs:1: model/ must not use Instant"
    );
    for text in ["use std::{fs, io};", "fn f() { std::fs::read(x); }"] {
        assert_eq!(
            found("model/x.rs", text, forbidden_words),
            "pinwatch/src/model/x.rs:1: model/ must not use std::fs"
        );
    }

    let text = "let x = 1;\nhook\n    .program\n    .starts_with(prefix)";
    let finding = found("probe/x.rs", text, decisions_by_name);
    assert!(
        finding.starts_with("pinwatch/src/probe/x.rs:4: decides by a program's name"),
        "{finding}"
    );
    assert_eq!(found("cli/x.rs", text, decisions_by_name), "");
    assert_eq!(
        found("probe/x.rs", "programs().starts_with(x)", decisions_by_name),
        ""
    );
}
