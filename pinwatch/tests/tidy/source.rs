//! The source files of all crates.

use std::fs;
use std::path::{Path, PathBuf};

use super::tokens::{Token, tokens};

pub const CRATES: &[&str] = &[
    "pinwatch",
    "pinwatch-common",
    "pinwatch-ebpf",
    "pinwatch-load",
    "xtask",
];

/// A path of modules from the root of the crate.
pub type Module = Vec<String>;

pub struct Source {
    /// Relative to the repository.
    pub path: String,
    /// Relative to `src`.
    pub name: String,
    pub module: Module,
    pub text: String,
}

impl Source {
    /// A file whose `name` is its path below `src`.
    pub fn new(krate: &str, name: &str, text: &str) -> Self {
        let module = match name.strip_suffix(".rs").expect("a Rust file") {
            "lib" => "",
            // In pinwatch, which has a library, `main.rs` is a crate of its own.
            "main" if krate != "pinwatch" => "",
            name => name.strip_suffix("/mod").unwrap_or(name),
        };
        let parts = module.split('/').filter(|part| !part.is_empty());
        Self {
            path: format!("{krate}/src/{name}"),
            name: name.to_owned(),
            module: parts.map(str::to_owned).collect(),
            text: text.to_owned(),
        }
    }

    /// Folder directly below `src`.
    pub fn folder(&self) -> Option<&str> {
        self.name.split_once('/').map(|(folder, _)| folder)
    }

    pub fn is_tests(&self) -> bool {
        self.name.ends_with("/tests.rs")
    }

    pub fn tokens(&self) -> Vec<Token<'_>> {
        tokens(&self.text)
    }

    pub fn finding(&self, line: usize, what: impl AsRef<str>) -> String {
        format!("{}:{line}: {}", self.path, what.as_ref())
    }
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a crate, sorted by path.
pub fn sources(krate: &str) -> Vec<Source> {
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
    let source = |path: &PathBuf| {
        let name = path.strip_prefix(&root).expect("inside").to_str();
        let text = fs::read_to_string(path).expect("text");
        Source::new(krate, name.expect("UTF-8"), &text)
    };
    paths.iter().map(source).collect()
}
