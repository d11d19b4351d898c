//! Names of the numbers that BPF writes.

/// The name of a number; `other` for one that has none, as in a recording of a later version.
#[must_use]
pub fn label<'a>(names: &[&'a str], n: u8) -> &'a str {
    names.get(usize::from(n)).copied().unwrap_or("other")
}
