//! Small files of procfs and sysfs.

#![forbid(unsafe_code)]

use super::procfs;

/// Trimmed text of a file; `None` if it cannot be read.
pub fn read_trimmed(path: &str) -> Option<String> {
    Some(procfs::read(path).ok()?.trim().to_owned())
}

/// Text between the first pair of brackets.
pub fn bracketed(text: &str, open: char, close: char) -> Option<String> {
    Some(text.split_once(open)?.1.split_once(close)?.0.to_owned())
}
