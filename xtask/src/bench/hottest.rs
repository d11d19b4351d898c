//! Where user space's instructions go: callgrind's counts by function, put together by what the
//! functions are for.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::child;

/// What functions are for, by a part of their names; the first that fits. What is left is pinwatch's
/// own work, with what of the standard library was inlined into it.
const PURPOSES: [(&str, &[&str]); 6] = [
    (
        "memory: allocating, growing, freeing",
        &[
            "malloc",
            "realloc",
            "calloc",
            "free",
            "unlink_chunk",
            "raw_vec",
            "alloc::alloc",
        ],
    ),
    (
        "memory: copying, clearing, comparing",
        &["memcpy", "memmove", "memset", "memcmp", "bcmp"],
    ),
    ("postcard and serde", &["postcard", "serde"]),
    ("checksums", &["crc32"]),
    (
        "numbers and text",
        &[
            "flt2dec",
            "core::fmt",
            "core::str",
            "alloc::fmt",
            "float_to",
            "alloc::string",
            "memchr",
        ],
    ),
    ("prometheus", &["prometheus::", "protobuf"]),
];
const REST: &str = "pinwatch";

/// Instructions by purpose.
pub type Counts = BTreeMap<&'static str, i64>;

/// What each iteration of a benchmark executes, by purpose: the difference between three and one.
pub fn counts(program: &Path, benchmark: &str) -> Result<Counts> {
    let [mut three, one] = [run(program, benchmark, "3")?, run(program, benchmark, "1")?];
    for (purpose, count) in &mut three {
        *count = (*count - one.get(purpose).copied().unwrap_or_default()) / 2;
    }
    Ok(three)
}

/// All purposes in the order of the table.
pub fn purposes() -> impl Iterator<Item = &'static str> {
    [REST]
        .into_iter()
        .chain(PURPOSES.into_iter().map(|(purpose, _)| purpose))
}

fn run(program: &Path, benchmark: &str, times: &str) -> Result<Counts> {
    let folder = TempDir::with_prefix("pinwatch-callgrind-")?;
    let file = folder.path().join("counts");
    let mut valgrind = child::command("valgrind");
    valgrind
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["--count", benchmark, times]);
    child::output(&mut valgrind)?;
    let mut annotate = child::command("callgrind_annotate");
    annotate.args(["--auto=no", "--threshold=100"]).arg(&file);
    read(&child::output(&mut annotate)?)
}

/// From lines such as ` 729,312 (18.01%)  src/fold.rs:user::fold [/usr/bin/user]`.
fn read(annotated: &str) -> Result<Counts> {
    let (_, functions) = annotated
        .split_once("file:function")
        .context("callgrind_annotate names no functions")?;
    let mut counts = Counts::new();
    for line in functions.lines() {
        let Some((count, place)) = line.split_once(')') else {
            continue;
        };
        let count = count.split('(').next().unwrap_or_default();
        let count: i64 = count.trim().replace(',', "").parse()?;
        let function = place
            .split_once(':')
            .map_or(place, |(_, function)| function);
        *counts.entry(purpose(function)).or_default() += count;
    }
    Ok(counts)
}

fn purpose(function: &str) -> &'static str {
    // The program's own path follows the name.
    let name = function.split(" [").next().unwrap_or_default();
    let found = PURPOSES
        .iter()
        .find(|(_, parts)| parts.iter().any(|part| name.contains(part)));
    found.map_or(REST, |(purpose, _)| purpose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_put_together() {
        let annotated = "Ir file:function\n-----\n\
            1,000 (50.0%)  src/fold.rs:user::fold [/free/user]\n\
            300 (15.0%)  ???:_int_malloc [/free/user]\n\
            200 (10.0%)  ???:free\n\
            7 ( 0.35%)  /x/de.rs:<u8 as serde_core::de::Deserialize>::deserialize\n";
        let counts = read(annotated).unwrap();
        assert_eq!(counts[REST], 1000);
        assert_eq!(counts["memory: allocating, growing, freeing"], 500);
        assert_eq!(counts["postcard and serde"], 7);
        assert!(read("nothing").is_err());
    }
}
