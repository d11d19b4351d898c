//! Arithmetic without branches. The verifier follows both sides of each branch, so a few in a row are more than it accepts.

use crate::verifier_hint::opaque;

/// A number that is 0 or 1, and LLVM does not know it. It would compile what depends on it to branches, and
/// the verifier would follow both sides of each.
#[inline(always)]
#[must_use]
pub fn bit(number: u64) -> u64 {
    opaque(number as usize & 1) as u64
}

/// 1 if the number is negative, else 0.
#[inline(always)]
#[must_use]
pub fn is_negative(number: i64) -> u64 {
    bit(number as u64 >> 63)
}

/// The one of two numbers that `second` (0 or 1) selects.
#[inline(always)]
#[must_use]
pub fn select(second: u64, numbers: [u64; 2]) -> u64 {
    let [zero, one] = numbers;
    zero ^ (zero ^ one) & second.wrapping_neg()
}

/// 0 if the number is 0, else 1.
#[inline(always)]
#[must_use]
pub fn is_nonzero(number: u64) -> u64 {
    // Without `opaque` LLVM recognises a comparison, and emits a branch.
    opaque((number | number.wrapping_neg()) as usize) as u64 >> 63
}

/// All bits if the number is 0, else none.
#[inline(always)]
#[must_use]
pub fn mask_if_zero(number: u64) -> u64 {
    is_nonzero(number).wrapping_sub(1)
}

/// Position of the lowest bit that is set, of six. After [`lowest`], whose result it bounds less well, the verifier follows more paths.
#[inline(always)]
#[must_use]
pub fn lowest_of_six(bits: u64) -> u8 {
    let below = (bits & bits.wrapping_neg()).wrapping_sub(1);
    let ones =
        (below & 1) + (below >> 1 & 1) + (below >> 2 & 1) + (below >> 3 & 1) + (below >> 4 & 1);
    ones as u8
}

/// Position of the lowest bit that is set; 0 if none is.
#[inline(always)]
#[must_use]
pub fn lowest(bits: u64) -> u64 {
    let one = bits & bits.wrapping_neg();
    // Bits whose position has a 1 in each place of its binary form.
    let place = |mask: u64| 1 & !mask_if_zero(one & mask);
    place(0xaaaa_aaaa_aaaa_aaaa)
        | place(0xcccc_cccc_cccc_cccc) << 1
        | place(0xf0f0_f0f0_f0f0_f0f0) << 2
        | place(0xff00_ff00_ff00_ff00) << 3
        | place(0xffff_0000_ffff_0000) << 4
        | place(0xffff_ffff_0000_0000) << 5
}
