//! Tokens of Rust source.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    /// From 1.
    pub line: usize,
}

/// Identifiers and punctuation, without comments, strings and characters.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let (mut rest, mut line, mut found) = (text, 1, Vec::new());
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
                let text = &rest[..length];
                found.push(Token { text, line });
            }
            length
        };
        line += rest[..length].matches('\n').count();
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

#[test]
fn strings_and_comments_are_no_tokens() {
    let text = "// a\nfn f<'b>() {\n    r#\"c\"d\"#;\n    \"\\\"e\\\n\"; '\"'; g::h\n}";
    let found: Vec<_> = tokens(text).iter().map(|t| (t.text, t.line)).collect();
    let names = found
        .iter()
        .filter(|(text, _)| text.len() > 1 || text.contains(char::is_alphabetic));
    let names: Vec<_> = names.copied().collect();
    assert_eq!(
        names,
        [("fn", 2), ("f", 2), ("b", 2), ("g", 5), ("::", 5), ("h", 5)]
    );
}
