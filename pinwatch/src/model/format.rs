//! Formats figures and names for a terminal.
//!
//! A process chooses its name freely. [`printable`] escapes characters that control a terminal.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use serde::Serialize;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A thread's name, up to the first NUL. Bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn name(comm: &[u8]) -> String {
    let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

/// Escapes backslashes, control characters, and characters that change the text direction.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\'') {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    out
}

/// Escapes like [`printable`], except for backslashes: for sentences that contain names.
#[must_use]
pub fn harmless(text: &str) -> String {
    let parts: Vec<_> = text.split('\\').map(printable).collect();
    parts.join("\\")
}

/// Truncates text to `width` terminal columns. An ellipsis marks the cut.
#[must_use]
pub fn fit(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut used = 1;
    let kept = text.chars().take_while(|c| {
        used += c.width().unwrap_or(0);
        used <= width
    });
    Cow::Owned(kept.chain(['…']).collect())
}

/// Pads text with spaces to `width` terminal columns. `right` aligns it to the right.
#[must_use]
pub fn pad(text: &str, width: usize, right: bool) -> String {
    let space = " ".repeat(width.saturating_sub(text.width()));
    if right {
        space + text
    } else {
        format!("{text}{space}")
    }
}

/// A duration with three digits and a unit: `812ns`, `1.23ms`, `12.3s`. From ten minutes on `10m02s`,
/// from an hour on `1h05m`.
#[must_use]
pub fn duration(ns: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    if ns >= 3600 * SECOND {
        let minutes = ns / SECOND / 60;
        return format!("{}h{:02}m", minutes / 60, minutes % 60);
    }
    if ns >= 600 * SECOND {
        let seconds = ns / SECOND;
        return format!("{}m{:02}s", seconds / 60, seconds % 60);
    }
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..SECOND => (ns as f64 / 1e6, "ms"),
        SECOND.. => (ns as f64 / 1e9, "s"),
    };
    three_digits(value, unit)
}

/// What the clock of a recording counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    #[default]
    Time,
    /// An emulated processor that takes one nanosecond for each instruction. Its durations are numbers of
    /// instructions: they say nothing about time.
    Instructions,
}

impl Clock {
    /// The clock of a recording; an unknown one counts time.
    #[must_use]
    pub fn of(counts_instructions: Option<bool>) -> Self {
        match counts_instructions {
            Some(true) => Self::Instructions,
            Some(false) | None => Self::Time,
        }
    }

    /// A duration in nanoseconds of this clock: `1.23ms`, or `1.23M instr`.
    #[must_use]
    pub fn span(self, ns: u64) -> String {
        match self {
            Self::Time => duration(ns),
            Self::Instructions => instructions(ns),
        }
    }

    /// The same in six columns, without the unit of instructions: `1.23ms`, or `1.23M`.
    #[must_use]
    pub fn short(self, ns: u64) -> String {
        self.span(ns).trim_end_matches(" instr").to_owned()
    }

    /// Nanoseconds of this clock with one decimal, such as those per page: `12.3 ns`, or `12.3 instr`.
    #[must_use]
    pub fn fine(self, ns: f64) -> String {
        format!("{ns:.1} {}", self.unit())
    }

    /// Short name of a nanosecond of this clock.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Time => "ns",
            Self::Instructions => "instr",
        }
    }

    /// A nanosecond of this clock in words, in the plural.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Time => "nanoseconds",
            Self::Instructions => "instructions",
        }
    }
}

/// A number of instructions with three digits: `812 instr`, `1.23M instr`.
fn instructions(n: u64) -> String {
    let (value, prefix) = match n {
        0..1_000 => return format!("{n} instr"),
        1_000..1_000_000 => (n as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => (n as f64 / 1e6, "M"),
        1_000_000_000.. => (n as f64 / 1e9, "G"),
    };
    format!("{} instr", three_digits(value, prefix))
}

/// A value with three digits and a unit.
fn three_digits(value: f64, unit: &str) -> String {
    let decimals = match value {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_controls_are_escaped() {
        assert_eq!(printable("qemu \"x\""), "qemu \"x\"");
        assert_eq!(printable("\x1b[31mred"), "\\u{1b}[31mred");
        assert_eq!(printable("a\nb\tc\\"), "a\\nb\\tc\\\\");
        assert_eq!(printable("abc\u{202e}fed"), "abc\\u{202e}fed");
        assert_eq!(printable("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(name(b"a\xffb\0rest"), "a\u{fffd}b");
    }

    #[test]
    fn no_character_controls_the_terminal_or_turns_the_text() {
        let turns = |c| matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        for c in '\0'..=char::MAX {
            for text in [printable(&c.to_string()), harmless(&c.to_string())] {
                let harmful = text.chars().find(|c| c.is_control() || turns(*c));
                assert_eq!(harmful, None, "{c:?}");
            }
        }
        assert_eq!(harmless("C:\\a\x1b"), "C:\\a\\u{1b}");
    }

    #[test]
    fn durations_have_three_digits() {
        for (ns, text) in [
            (0, "0ns"),
            (812, "812ns"),
            (1_234, "1.23us"),
            (12_345_678, "12.3ms"),
            (999_000_000, "999ms"),
            (59_900_000_000, "59.9s"),
            (599_000_000_000, "599s"),
            (3_902_000_000_000, "1h05m"),
            (602_000_000_000, "10m02s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn counted_instructions_are_never_shown_as_time() {
        let counted = Clock::of(Some(true));
        for (n, text) in [
            (0, "0 instr"),
            (812, "812 instr"),
            (9_500, "9.50k instr"),
            (12_345_678, "12.3M instr"),
            (3_902_000_000_000, "3902G instr"),
        ] {
            assert_eq!(counted.span(n), text);
        }
        assert_eq!(counted.fine(35.54), "35.5 instr");
        assert_eq!(Clock::of(None).span(9_500), "9.50us");
    }

    #[test]
    fn texts_fit_by_width_not_by_bytes() {
        assert_eq!(fit("kernel", 6), "kernel");
        assert_eq!(fit("kernels", 6), "kerne…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(pad("日", 4, true), "  日");
        assert_eq!(pad("ab", 1, false), "ab");
    }
}
