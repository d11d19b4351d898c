//! Rules for the sources of all crates. docs/architecture.md gives the reasons. Each finding names file and line.

mod architecture;
mod folders;
mod imports;
mod shape;
mod source;
mod tokens;
mod words;

/// Panics with the findings if there are any.
fn none(findings: impl IntoIterator<Item = String>) {
    let findings: Vec<_> = findings.into_iter().collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}
