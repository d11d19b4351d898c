//! Small files of procfs and sysfs.

use std::fs;

/// The trimmed text of a file; none if it cannot be read.
pub fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The text between the first two brackets of a kind.
pub fn bracketed(text: &str, open: char, close: char) -> Option<String> {
    Some(text.split_once(open)?.1.split_once(close)?.0.to_owned())
}
