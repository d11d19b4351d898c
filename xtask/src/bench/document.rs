//! Writes tables into documents, between pairs of markers. The rest of the text is written by hand.

use std::fs;

use anyhow::{Context, Result};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// Replaces the text between `<!-- name -->` and `<!-- /name -->` in docs/performance.md.
pub fn write(name: &str, made: &str) -> Result<()> {
    write_in("performance.md", name, made)
}

/// The same in another document.
pub fn write_in(document: &str, name: &str, made: &str) -> Result<()> {
    let path = format!("{DOCS}/{document}");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let text = replaced(&text, name, made)
        .with_context(|| format!("docs/{document} has no markers for {name}"))?;
    fs::write(&path, text).with_context(|| path.clone())?;
    eprintln!("xtask: docs/{document} has the new figures of {name}");
    Ok(())
}

/// Adds a row to a table in a document, in place of the row that begins with `key`.
pub fn write_row(document: &str, name: &str, key: &str, row: &str) -> Result<()> {
    let path = format!("{DOCS}/{document}");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let table = between(&text, name)
        .with_context(|| format!("docs/{document} has no markers for {name}"))?;
    write_in(document, name, &with_row(table, key, row))
}

fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<!-- {name} -->\n"))?;
    Some(rest.split_once(&format!("<!-- /{name} -->"))?.0)
}

fn with_row(table: &str, key: &str, row: &str) -> String {
    let mut lines: Vec<_> = table.lines().collect();
    match lines.iter_mut().find(|line| line.starts_with(key)) {
        Some(old) => *old = row,
        None => lines.push(row),
    }
    lines.join("\n")
}

/// Replaces what stands between the markers of `name`; `None` if the text has no such markers.
pub fn replaced(text: &str, name: &str, made: &str) -> Option<String> {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open)?;
    let (_, after) = rest.split_once(&close)?;
    Some(format!("{before}{open}{}\n{close}{after}", made.trim_end()))
}

/// `12345` as `12,345`.
pub fn thousands(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if n < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        let new = "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n";
        assert_eq!(replaced(text, "x", "new\n").unwrap(), new);
        assert_eq!(replaced(text, "y", "new"), None);
    }

    #[test]
    fn a_row_replaces_the_one_with_its_key() {
        let text = "<!-- x -->\n| k |\n|---|\n| a | 1 |\n| b | 2 |\n<!-- /x -->";
        let table = between(text, "x").unwrap();
        let row = |key, row| with_row(table, key, row);
        assert_eq!(
            row("| a |", "| a | 3 |"),
            "| k |\n|---|\n| a | 3 |\n| b | 2 |"
        );
        assert_eq!(
            row("| c |", "| c | 4 |"),
            "| k |\n|---|\n| a | 1 |\n| b | 2 |\n| c | 4 |"
        );
    }

    #[test]
    fn digits_are_grouped() {
        let grouped = [0, 999, 1000, -1_234_567].map(thousands);
        assert_eq!(grouped, ["0", "999", "1,000", "-1,234,567"]);
    }
}
