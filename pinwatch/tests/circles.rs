//! Rules for the files of all crates: imports have no circle, files are short, docs/architecture.md lists the modules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of crates, each with the prefix of its modules in docs/architecture.md. `tests/tidy.rs` looks for
/// pinwatch's modules there.
const CRATES: &[(&str, Option<&str>)] = &[
    ("pinwatch", None),
    ("pinwatch-common", Some("common")),
    ("pinwatch-ebpf", Some("ebpf")),
    ("pinwatch-load", Some("load")),
    ("xtask", Some("xtask")),
];

const MOST_LINES: usize = 400;

/// Long, but one row after the other.
const TABLES: &[&str] = &[
    "pinwatch-common/src/fold.rs",
    "pinwatch/src/output/metrics/table.rs",
    "pinwatch/src/probe/table.rs",
];

/// A path of modules from the root of the crate.
type Module = Vec<String>;

struct File {
    /// Relative to the repository.
    path: String,
    module: Module,
    text: String,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(krate: &str) -> Vec<File> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.extension() {
                _ if path.is_dir() => collect(&path, found),
                Some(kind) if kind == "rs" => found.push(path),
                _ => (),
            }
        }
    }
    let root = repository().join(krate).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let file = |path: &PathBuf| {
        let name = path.strip_prefix(&root).expect("inside").to_str();
        let name = name.expect("UTF-8");
        File::new(krate, name, &fs::read_to_string(path).expect("text"))
    };
    paths.iter().map(file).collect()
}

impl File {
    /// A file whose `name` is its path below `src`.
    fn new(krate: &str, name: &str, text: &str) -> Self {
        let module = match name.strip_suffix(".rs").expect("a Rust file") {
            "lib" => "",
            // In pinwatch, which has a library, `main.rs` is a crate of its own.
            "main" if krate != "pinwatch" => "",
            name => name.strip_suffix("/mod").unwrap_or(name),
        };
        let parts = module.split('/').filter(|part| !part.is_empty());
        Self {
            path: format!("{krate}/src/{name}"),
            module: parts.map(str::to_owned).collect(),
            text: text.to_owned(),
        }
    }

    fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs")
    }
}

/// Identifiers and punctuation, without comments, strings and characters.
fn tokens(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let (mut rest, mut found) = (text, Vec::new());
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"').unwrap_or(rest.len())
        } else if first == '\'' {
            // A lifetime has no second quote.
            let is_char = rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'');
            if is_char {
                quoted(rest, '\'').unwrap_or(1)
            } else {
                1
            }
        } else {
            let length = match first {
                ':' if rest.starts_with("::") => 2,
                _ if is_name(first) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
                _ => first.len_utf8(),
            };
            if !first.is_whitespace() {
                found.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    found
}

/// Bytes of a string or character with escapes, at the start of a text.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = true;
    let end = text.char_indices().find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map(|(at, _)| at + 1)
}

/// Bytes of a raw string at the start of a text.
fn raw_string(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let quote = rest.find(|c| c != '#')?;
    let inside = rest[quote..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(quote));
    Some(text.len() - inside.len() + inside.find(&end)? + end.len())
}

/// A path that a file names, in the module where it stands. `name` is what it is called there, if it is imported.
struct Named<'a> {
    within: Module,
    path: Vec<&'a str>,
    name: Option<&'a str>,
}

/// What a file imports and names, and whether it only lists modules and what they offer.
#[derive(Default)]
struct Content<'a> {
    named: Vec<Named<'a>>,
    only_lists: bool,
}

impl<'a> Content<'a> {
    fn of(file: &'a File) -> Self {
        let tokens = tokens(&file.text);
        let mut content = Self {
            named: Vec::new(),
            only_lists: true,
        };
        // Inline modules, each with the depth of its braces.
        let (mut within, mut inline, mut depth) = (file.module.clone(), Vec::new(), 0);
        let (mut at, mut has_modules) = (0, false);
        while at < tokens.len() {
            match tokens[at..] {
                ["mod", name, "{", ..] => {
                    within.push(name.to_owned());
                    inline.push(depth);
                    depth += 1;
                    at += 3;
                    content.only_lists = false;
                }
                ["mod", _, ";", ..] => {
                    has_modules = true;
                    at += 3;
                }
                ["use", ..] => {
                    at += 1;
                    content.tree(&tokens, &mut at, &within, &[]);
                    at += 1;
                }
                ["#", ..] => at = attribute_end(&tokens, at),
                ["pub", "(", ..] => at += 4,
                ["pub", ..] => at += 1,
                ["}", ..] => {
                    depth -= 1;
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        within.pop();
                    }
                    at += 1;
                }
                ["{", ..] => {
                    depth += 1;
                    at += 1;
                }
                _ => {
                    let mut path = vec![tokens[at]];
                    at += 1;
                    while let ["::", next, ..] = tokens[at..] {
                        path.push(next);
                        at += 2;
                    }
                    content.only_lists = false;
                    if path.len() > 1 {
                        content.named.push(Named {
                            within: within.clone(),
                            path,
                            name: None,
                        });
                    }
                }
            }
        }
        content.only_lists &= has_modules;
        content
    }

    /// One import, or a group of imports; ends at the token behind it.
    fn tree(&mut self, tokens: &[&'a str], at: &mut usize, within: &Module, before: &[&'a str]) {
        let mut path = before.to_vec();
        loop {
            match tokens[*at] {
                "{" => {
                    *at += 1;
                    while tokens[*at] != "}" {
                        self.tree(tokens, at, within, &path);
                        *at += usize::from(tokens[*at] == ",");
                    }
                    *at += 1;
                    return;
                }
                "::" => (),
                "self" if !path.is_empty() => (),
                part => path.push(part),
            }
            *at += 1;
            if !matches!(tokens[*at], "::") && tokens[*at - 1] != "::" {
                break;
            }
        }
        let mut name = path.last().copied();
        if tokens[*at] == "as" {
            name = Some(tokens[*at + 1]);
            *at += 2;
        }
        self.named.push(Named {
            within: within.clone(),
            path,
            name,
        });
    }
}

fn attribute_end(tokens: &[&str], at: usize) -> usize {
    let mut depth = 0;
    for (n, token) in tokens.iter().enumerate().skip(at) {
        match *token {
            "[" => depth += 1,
            "]" if depth == 1 => return n + 1,
            "]" => depth -= 1,
            _ => (),
        }
    }
    tokens.len()
}

struct Crate<'a> {
    files: &'a [File],
    contents: Vec<Content<'a>>,
    modules: BTreeMap<&'a [String], usize>,
}

impl<'a> Crate<'a> {
    fn new(files: &'a [File]) -> Self {
        let modules = files.iter().enumerate();
        Self {
            files,
            contents: files.iter().map(Content::of).collect(),
            modules: modules
                .map(|(n, file)| (file.module.as_slice(), n))
                .collect(),
        }
    }

    /// Files that a file imports or names, by number.
    fn imports(&self, from: usize) -> BTreeSet<usize> {
        let content = &self.contents[from];
        if content.only_lists {
            return BTreeSet::new();
        }
        let mut bound = BTreeMap::new();
        let mut found = BTreeSet::new();
        for named in &content.named {
            let Some(path) = self.absolute(named, &bound) else {
                continue;
            };
            if let Some(name) = named.name
                && self.modules.contains_key(path.as_slice())
            {
                bound.insert(name, path.clone());
            }
            found.extend(self.owner(path));
        }
        found.remove(&from);
        found
    }

    /// A path from the root of the crate; none if it begins outside the crate or in this file.
    fn absolute(&self, named: &Named, bound: &BTreeMap<&str, Module>) -> Option<Module> {
        let (mut base, mut rest) = (named.within.clone(), named.path.as_slice());
        match rest {
            ["crate", ..] => base.clear(),
            ["self" | "super", ..] => rest = &rest[usize::from(rest[0] == "self")..],
            [first, ..] => {
                let child: Module = base.iter().cloned().chain([(*first).to_owned()]).collect();
                if let Some(module) = bound.get(first) {
                    base.clone_from(module);
                } else if self.modules.contains_key(child.as_slice()) {
                    base = child;
                } else {
                    return None;
                }
            }
            [] => return None,
        }
        if rest[0] != "super" && named.path[0] != "self" {
            rest = &rest[1..];
        }
        while let ["super", after @ ..] = rest {
            base.pop();
            rest = after;
        }
        base.extend(rest.iter().map(|part| (*part).to_owned()));
        Some(base)
    }

    /// The file that has what a path names. A file that only lists modules has nothing: its imports are followed.
    fn owner(&self, path: Module) -> Option<usize> {
        let known = (0..=path.len()).rev().find_map(|end| {
            let file = self.modules.get(&path[..end])?;
            Some((end, *file))
        });
        let (end, file) = known?;
        let content = &self.contents[file];
        if !content.only_lists {
            return Some(file);
        }
        let wanted = path.get(end)?;
        let import = content
            .named
            .iter()
            .find(|named| named.name == Some(wanted))?;
        let mut target = self.absolute(import, &BTreeMap::new())?;
        target.extend_from_slice(&path[end + 1..]);
        self.owner(target)
    }

    /// Circles without a file in common, each as `a.rs → b.rs → a.rs`, the shortest first.
    fn circles(&self) -> Vec<String> {
        let mut arrows: BTreeMap<usize, BTreeSet<usize>> = (0..self.files.len())
            .map(|n| (n, self.imports(n)))
            .collect();
        let mut found = Vec::new();
        loop {
            let circles = arrows.keys().filter_map(|start| circle(&arrows, *start));
            let Some(shortest) = circles.min_by_key(Vec::len) else {
                return found;
            };
            let names = shortest.iter().chain(&shortest[..1]);
            let names: Vec<_> = names.map(|n| self.files[*n].path.as_str()).collect();
            found.push(names.join(" → "));
            arrows.retain(|file, _| !shortest.contains(file));
        }
    }
}

/// The shortest way from a file back to it.
fn circle(arrows: &BTreeMap<usize, BTreeSet<usize>>, start: usize) -> Option<Vec<usize>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let next = arrows.get(way.last()?);
        for to in next.into_iter().flatten() {
            if *to == start {
                return Some(way);
            }
            if seen.insert(*to) {
                ways.push_back(way.iter().copied().chain([*to]).collect());
            }
        }
    }
    None
}

/// Lines without tests at the end.
fn too_long(file: &File) -> Option<String> {
    if file.is_tests() || TABLES.contains(&file.path.as_str()) {
        return None;
    }
    let lines: Vec<_> = file.text.lines().collect();
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
    let finding = format!(
        "{}: {count} lines; more than {MOST_LINES} only in tables (TABLES)",
        file.path
    );
    (count > MOST_LINES).then_some(finding)
}

fn listed_name(prefix: &str, file: &File) -> String {
    let (_, path) = file.path.split_once("/src/").expect("a source");
    let path = path.strip_suffix(".rs").expect("a Rust file");
    format!("{prefix}/{}", path.strip_suffix("/mod").unwrap_or(path))
}

/// Modules that docs/architecture.md does not list, and rows without a module.
fn wrongly_listed(prefix: &str, files: &[File], architecture: &str) -> Vec<String> {
    let files = files.iter().filter(|file| !file.is_tests());
    let modules: BTreeSet<_> = files.map(|file| listed_name(prefix, file)).collect();
    let names = architecture
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0));
    let names = names.filter(|name| {
        name.split_once('/')
            .is_some_and(|(first, _)| first == prefix)
    });
    let is_module = |name: &&str| {
        name.chars()
            .all(|c| c.is_alphanumeric() || "_/".contains(c))
    };
    let listed: BTreeSet<_> = names.filter(is_module).map(str::to_owned).collect();
    let missing = modules
        .difference(&listed)
        .map(|name| format!("docs/architecture.md does not list `{name}`"));
    let gone = listed
        .difference(&modules)
        .map(|name| format!("docs/architecture.md: there is no module `{name}`"));
    missing.chain(gone).collect()
}

fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn imports_between_files_have_no_circle() {
    let found = CRATES
        .iter()
        .flat_map(|(krate, _)| Crate::new(&files(krate)).circles());
    none(&found.collect::<Vec<_>>());
}

#[test]
fn files_are_short() {
    let files = CRATES.iter().flat_map(|(krate, _)| files(krate));
    none(&files.filter_map(|file| too_long(&file)).collect::<Vec<_>>());
}

#[test]
fn the_architecture_lists_every_module() {
    let path = repository().join("docs/architecture.md");
    let text = fs::read_to_string(path).expect("docs/architecture.md");
    let listed = CRATES
        .iter()
        .filter_map(|(krate, prefix)| Some((krate, (*prefix)?)));
    let found = listed.flat_map(|(krate, prefix)| wrongly_listed(prefix, &files(krate), &text));
    none(&found.collect::<Vec<_>>());
}

/// Each rule against files that break it.
#[test]
fn each_rule_finds_its_violation() {
    let circles = |files: &[(&str, &str)]| {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| File::new("x", name, text))
            .collect();
        Crate::new(&files).circles()
    };
    let lists = "pub mod b;\npub mod c;\npub use c::{C as D};";
    let found = circles(&[
        ("lib.rs", "mod a;\nmod d;"),
        ("a.rs", "use crate::d::{b::B, other};"),
        ("d/mod.rs", lists),
        ("d/b.rs", "use super::D;"),
        (
            "d/c.rs",
            "// crate::d\nfn f() -> &'static str { crate::a::f('\"'); \"\\\"\" }",
        ),
    ]);
    assert_eq!(
        found,
        ["x/src/a.rs → x/src/d/b.rs → x/src/d/c.rs → x/src/a.rs"]
    );
    let found = circles(&[
        ("lib.rs", "mod a;\nfn f() { a::f(); }"),
        ("a.rs", "use super::f;"),
    ]);
    assert_eq!(found, ["x/src/lib.rs → x/src/a.rs → x/src/lib.rs"]);
    let found = circles(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod tests { use super::f; }"),
        ("b.rs", "use crate::a; fn f() {}"),
    ]);
    assert_eq!(found, [""; 0]);
    let folder = "use crate::d;\nfn f() { d::c::f(); }";
    let found = circles(&[
        ("lib.rs", "mod a;"),
        ("a.rs", folder),
        ("d/mod.rs", "mod c;"),
        ("d/c.rs", "use super::super::a::f;"),
    ]);
    assert_eq!(found, ["x/src/a.rs → x/src/d/c.rs → x/src/a.rs"]);

    let long = "x\n".repeat(MOST_LINES + 1);
    let found = too_long(&File::new("x", "a.rs", &long)).unwrap_or_default();
    assert!(found.starts_with("x/src/a.rs: 401 lines"), "{found}");
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}");
    assert_eq!(too_long(&File::new("x", "a.rs", &tests)), None);
    let behind = File::new("x", "a.rs", &(tests + "\nfn f() {}"));
    assert!(too_long(&behind).is_some());

    let files = ["lib.rs", "a/mod.rs", "a/b.rs"].map(|name| File::new("x", name, ""));
    let found = wrongly_listed(
        "x",
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
}
