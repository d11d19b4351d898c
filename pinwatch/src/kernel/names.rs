//! Set of wanted names, for a search through all names of a kernel.
#![forbid(unsafe_code)]

/// Words of the bitmap: 4096 bits, for about a hundred names.
const WORDS: usize = 64;

/// Names to look for in a kernel. Rejects nearly every other name by its first four bytes.
///
/// A kernel has 150,000 symbols and as many names in its BTF. A full comparison of each would take most of
/// a start.
#[derive(Debug)]
pub struct Names<'a> {
    names: Vec<&'a str>,
    /// One bit per hash of a name's first bytes.
    starts: [u64; WORDS],
}

impl<'a> Names<'a> {
    pub fn new(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self {
            names: names.into_iter().collect(),
            starts: [0; WORDS],
        };
        for name in &all.names {
            let (word, bit) = place(name.as_bytes());
            all.starts[word] |= bit;
        }
        all
    }

    /// Whether a wanted name may begin here. `text` may continue after the name.
    #[must_use]
    pub fn may_start(&self, text: &[u8]) -> bool {
        let (word, bit) = place(text);
        self.starts[word] & bit != 0
    }

    /// Whether `name` is wanted.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(&name)
    }
}

/// Word and bit of a name's first four bytes. A shorter name counts with zeros after it.
fn place(text: &[u8]) -> (usize, u64) {
    /// 2^32 divided by the golden ratio spreads similar keys.
    const SPREAD: u32 = 0x9e37_79b9;
    let first = text.first_chunk::<4>().copied().unwrap_or_else(|| {
        let mut first = [0; 4];
        first[..text.len()].copy_from_slice(text);
        first
    });
    let ends = |byte: u8| !(byte.is_ascii_alphanumeric() || byte == b'_');
    let mut key = u32::from_le_bytes(first);
    if let Some(end) = first.iter().position(|byte| ends(*byte)) {
        key &= (1 << (8 * end)) - 1;
    }
    let hash = key.wrapping_mul(SPREAD) >> 20;
    ((hash >> 6) as usize, 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_name_is_found_whatever_follows_it() {
        let names = Names::new(["f", "abc", "migrate_pages"]);
        for text in [
            "f",
            "f\0x",
            "f.cold",
            "abc",
            "abc\n",
            "abc.isra.0",
            "migrate_pages\t[mod]",
        ] {
            assert!(names.may_start(text.as_bytes()), "{text}");
        }
        assert!(names.contains("abc") && !names.contains("ab"));
    }

    #[test]
    fn other_names_are_rejected_early() {
        let names = Names::new(["f", "abc", "migrate_pages"]);
        let others = ["", "g", "ab", "abcd", "folio_isolate_lru", "\u{e9}"];
        let passed = others
            .iter()
            .filter(|text| names.may_start(text.as_bytes()));
        assert_eq!(passed.count(), 0);
    }
}
