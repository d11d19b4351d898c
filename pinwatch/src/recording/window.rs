//! Bytes of a file that were read and not yet taken, and the CRC-32 of any part of them.
//!
//! A damaged file can have the mark of a large frame every few bytes. So the sum of a frame is not computed
//! from its bytes, but from two sums over all bytes so far: before the frame, and up to its end. Each byte is
//! then added up once, however many frames could contain it.
#![forbid(unsafe_code)]

use std::io::{self, Read};

use crc32fast::Hasher;

/// Distance of the kept sums, in bytes.
const STEP: usize = 256;
/// Bytes that may be taken before the memory is used again.
const TAKEN: usize = 1 << 20;

/// The bytes, from the first that is not taken.
pub(super) struct Window {
    bytes: Vec<u8>,
    /// Number of `bytes` that are taken.
    taken: usize,
    /// Sum of everything up to each `STEP`th of `bytes`, from 0 on.
    sums: Vec<u32>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            taken: 0,
            sums: vec![0],
        }
    }

    /// The bytes that are not taken.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Reads until `wanted` bytes are ahead. Returns their number, smaller only at the end of the file.
    pub(super) fn fill(&mut self, input: impl Read, wanted: usize) -> io::Result<usize> {
        let missing = wanted.saturating_sub(self.ahead().len()) as u64;
        input.take(missing).read_to_end(&mut self.bytes)?;
        Ok(self.ahead().len().min(wanted))
    }

    /// Takes the first `number` bytes ahead.
    pub(super) fn take(&mut self, number: usize) {
        self.taken += number;
        if self.taken >= TAKEN {
            let steps = self.taken / STEP;
            // The sum at the new beginning must be known before the bytes are gone.
            self.sum_to(steps * STEP);
            self.bytes.drain(..steps * STEP);
            self.sums.drain(..steps);
            self.taken -= steps * STEP;
        }
    }

    /// Whether `length` bytes ahead, after the first `skipped`, have the CRC-32 `sum`.
    pub(super) fn has_sum(&mut self, skipped: usize, length: usize, sum: u32) -> bool {
        let start = self.taken + skipped;
        let before = self.sum_to(start);
        times(power(length), before) ^ sum == self.sum_to(start + length)
    }

    /// CRC-32 of everything up to `end` in `bytes`.
    fn sum_to(&mut self, end: usize) -> u32 {
        let more = |sum: u32, bytes: &[u8]| {
            let mut hasher = Hasher::new_with_initial(sum);
            hasher.update(bytes);
            hasher.finalize()
        };
        let step = end / STEP;
        while self.sums.len() <= step {
            let known = self.sums.len() - 1;
            let next = &self.bytes[known * STEP..(known + 1) * STEP];
            self.sums.push(more(self.sums[known], next));
        }
        more(self.sums[step], &self.bytes[step * STEP..end])
    }
}

/// Product of two polynomials modulo that of CRC-32. The highest bit is the coefficient of 1.
const fn times(a: u32, mut b: u32) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let (mut product, mut bit) = (0, 1 << 31);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = (b >> 1) ^ (if b & 1 == 1 { POLYNOMIAL } else { 0 });
        bit >>= 1;
    }
    product
}

/// Factor on a sum for `bytes` further bytes: x to the power of their bits.
fn power(bytes: usize) -> u32 {
    const SQUARES: [u32; usize::BITS as usize] = {
        // x to the power of 8, then its repeated squares.
        let mut squares = [1 << 23; usize::BITS as usize];
        let mut n = 1;
        while n < squares.len() {
            squares[n] = times(squares[n - 1], squares[n - 1]);
            n += 1;
        }
        squares
    };
    let bits = SQUARES.iter().enumerate();
    let set = bits.filter(|(n, _)| bytes >> n & 1 == 1);
    set.fold(1 << 31, |product, (_, square)| times(product, *square))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_bytes() {
        let bytes: Vec<u8> = (0..3_000_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let mut input = &bytes[..];
        let mut window = Window::new();
        let mut at = 0;
        for (skipped, length, taken) in [
            (0, 0, 0),
            (12, 1, 1),
            (0, 255, 256),
            (12, 256, 1000),
            (12, 1 << 20, 700_000),
            (3, 12_345, 800_000),
            (12, 1 << 20, 5),
            (1, 77, 0),
        ] {
            window.fill(&mut input, skipped + length).unwrap();
            let part = &bytes[at + skipped..at + skipped + length];
            let sum = crc32fast::hash(part);
            assert!(window.has_sum(skipped, length, sum), "{at} {length}");
            assert!(!window.has_sum(skipped, length, sum ^ 1), "{at} {length}");
            window.fill(&mut input, taken).unwrap();
            window.take(taken);
            at += taken;
        }
        assert!(window.bytes.len() < 2 * TAKEN, "taken bytes are dropped");
    }
}
