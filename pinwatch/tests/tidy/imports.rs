//! Imports between the files of each crate: no circles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::none;
use super::source::{CRATES, Module, Source, sources};
use super::tokens::Token;

/// A path that a file names, in the module where it stands. `name` is what it is called there, if it is imported.
pub struct Named<'a> {
    within: Module,
    pub path: Vec<&'a str>,
    name: Option<&'a str>,
    pub line: usize,
}

/// What a file imports and names.
#[derive(Default)]
pub struct Content<'a> {
    pub named: Vec<Named<'a>>,
    /// Line of the first item other than a module or an import.
    pub first_item: Option<usize>,
    /// Has modules and imports, and nothing else.
    only_lists: bool,
}

impl<'a> Content<'a> {
    pub fn of(source: &'a Source) -> Self {
        let (mut content, tokens) = (Self::default(), source.tokens());
        // Inline modules, each with the depth of its braces.
        let (mut within, mut inline, mut depth) = (source.module.clone(), Vec::new(), 0);
        let (mut at, mut has_modules) = (0, false);
        while at < tokens.len() {
            let text = |n: usize| tokens.get(at + n).map_or("", |token| token.text);
            let line = tokens[at].line;
            match [text(0), text(1), text(2)] {
                ["mod", name, "{"] => {
                    within.push(name.to_owned());
                    inline.push(depth);
                    depth += 1;
                    at += 3;
                    content.first_item.get_or_insert(line);
                }
                ["mod", _, ";"] => {
                    has_modules = true;
                    at += 3;
                }
                ["use", ..] => {
                    at += 1;
                    content.tree(&tokens, &mut at, &within, &[]);
                    at += 1;
                }
                ["#", ..] => at = attribute_end(&tokens, at),
                ["pub", "(", _] => at += 4,
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
                [first, ..] => {
                    let mut path = vec![first];
                    at += 1;
                    while let [colons, next, ..] = &tokens[at..]
                        && colons.text == "::"
                    {
                        path.push(next.text);
                        at += 2;
                    }
                    content.first_item.get_or_insert(line);
                    if path.len() > 1 {
                        content.named.push(Named {
                            within: within.clone(),
                            path,
                            name: None,
                            line,
                        });
                    }
                }
            }
        }
        content.only_lists = has_modules && content.first_item.is_none();
        content
    }

    /// One import, or a group of imports; ends at the token behind it.
    fn tree(&mut self, tokens: &[Token<'a>], at: &mut usize, within: &Module, before: &[&'a str]) {
        let mut path = before.to_vec();
        loop {
            match tokens[*at].text {
                "{" => {
                    *at += 1;
                    while tokens[*at].text != "}" {
                        self.tree(tokens, at, within, &path);
                        *at += usize::from(tokens[*at].text == ",");
                    }
                    *at += 1;
                    return;
                }
                "::" => (),
                "self" if !path.is_empty() => (),
                part => path.push(part),
            }
            *at += 1;
            if tokens[*at].text != "::" && tokens[*at - 1].text != "::" {
                break;
            }
        }
        let (mut name, line) = (path.last().copied(), tokens[*at - 1].line);
        if tokens[*at].text == "as" {
            name = Some(tokens[*at + 1].text);
            *at += 2;
        }
        self.named.push(Named {
            within: within.clone(),
            path,
            name,
            line,
        });
    }
}

fn attribute_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (n, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "[" => depth += 1,
            "]" if depth == 1 => return n + 1,
            "]" => depth -= 1,
            _ => (),
        }
    }
    tokens.len()
}

pub struct Crate<'a> {
    sources: &'a [Source],
    contents: Vec<Content<'a>>,
    modules: BTreeMap<&'a [String], usize>,
}

impl<'a> Crate<'a> {
    pub fn new(sources: &'a [Source]) -> Self {
        let modules = sources.iter().enumerate();
        Self {
            sources,
            contents: sources.iter().map(Content::of).collect(),
            modules: modules
                .map(|(n, source)| (source.module.as_slice(), n))
                .collect(),
        }
    }

    /// Numbers of the files that a file imports or names, each with the line of the first occurrence.
    pub fn targets(&self, from: usize) -> BTreeMap<usize, usize> {
        let mut bound = BTreeMap::new();
        let mut found = BTreeMap::new();
        for named in &self.contents[from].named {
            let Some(path) = self.absolute(named, &bound) else {
                continue;
            };
            if let Some(name) = named.name
                && self.modules.contains_key(path.as_slice())
            {
                bound.insert(name, path.clone());
            }
            if let Some(target) = self.owner(path) {
                found.entry(target).or_insert(named.line);
            }
        }
        found.remove(&from);
        found
    }

    /// [`Self::targets`] of a file that does more than list modules.
    fn imports(&self, from: usize) -> BTreeSet<usize> {
        if self.contents[from].only_lists {
            return BTreeSet::new();
        }
        self.targets(from).into_keys().collect()
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
        let mut arrows: BTreeMap<usize, BTreeSet<usize>> = (0..self.sources.len())
            .map(|n| (n, self.imports(n)))
            .collect();
        let mut found = Vec::new();
        loop {
            let circles = arrows.keys().filter_map(|start| circle(&arrows, *start));
            let Some(shortest) = circles.min_by_key(Vec::len) else {
                return found;
            };
            let names = shortest.iter().chain(&shortest[..1]);
            let names: Vec<_> = names.map(|n| self.sources[*n].path.as_str()).collect();
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

#[test]
fn imports_between_files_have_no_circle() {
    let found = CRATES
        .iter()
        .flat_map(|krate| Crate::new(&sources(krate)).circles());
    none(found);
}

#[test]
fn circles_are_found() {
    let circles = |files: &[(&str, &str)]| {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| Source::new("x", name, text))
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
}
