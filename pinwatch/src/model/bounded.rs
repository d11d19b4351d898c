//! Bounds of untrusted input: a list that is too long is an error before memory is allocated for it, and a sum
//! of any counts does not overflow.
#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// Reads a list of at most `MOST` items. For `#[serde(deserialize_with)]`.
///
/// # Errors
///
/// If the list has more items, or if one of them cannot be read.
pub fn at_most<'de, D, T, const MOST: usize>(input: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    input.deserialize_seq(AtMost::<T, MOST>(PhantomData))
}

/// Sum of counts, at most `u64::MAX`.
pub fn sum(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

struct AtMost<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let announced = items.size_hint().unwrap_or(0);
        if announced > MOST {
            return Err(Error::invalid_length(announced, &self));
        }
        let mut list = Vec::with_capacity(announced);
        while let Some(item) = items.next_element()? {
            if list.len() == MOST {
                return Err(Error::invalid_length(MOST + 1, &self));
            }
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Three(#[serde(deserialize_with = "at_most::<_, _, 3>")] Vec<u8>);

    #[test]
    fn forged_counts_have_a_sum() {
        assert_eq!(sum([]), 0);
        assert_eq!(sum([1, 2]), 3);
        assert_eq!(sum([u64::MAX, u64::MAX]), u64::MAX);
    }

    #[test]
    fn a_list_that_is_too_long_is_refused_by_either_encoding() {
        for (length, fits) in [(0, true), (3, true), (4, false), (300, false)] {
            let list = vec![7u8; length];
            let json: Result<Three, _> = serde_json::from_str(&format!("{list:?}"));
            assert_eq!(json.ok(), fits.then(|| Three(list.clone())), "{length}");
            let binary = postcard::to_allocvec(&list).expect("encoded");
            let binary: Result<Three, _> = postcard::from_bytes(&binary);
            assert_eq!(binary.ok(), fits.then_some(Three(list)), "{length}");
        }
        // The length alone is enough: no item follows.
        let announced = postcard::from_bytes::<Three>(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(announced.is_err());
    }
}
