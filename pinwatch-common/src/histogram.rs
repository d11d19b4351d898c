//! Bucket layout of the two histograms: durations (log-linear) and passes (a table of edges).
//!
//! Pure index arithmetic; the cells are in [`crate::fold`]. A duration bucket holds
//! `(lower, upper]`, so that Prometheus' inclusive `le` is exact at every edge.

use crate::branchless::{is_nonzero, select};
use crate::verifier_hint::opaque;

/// log2 of the buckets per octave. With 8 buckets, the middle of a bucket is within 6 % of every
/// duration in it.
const SUB_BITS: u32 = 3;
/// log2 of the first bucket's upper edge: it holds 0 to 256 ns.
const MIN_EXP: u32 = 8;
/// log2 of the last bucket's lower edge: it holds everything beyond 2.4 hours. The longest observed
/// pin looped for 65 minutes.
const MAX_EXP: u32 = 43;

/// Number of duration buckets.
pub const DURATION_BUCKETS: usize = (((MAX_EXP - MIN_EXP) << SUB_BITS) + 2) as usize;

/// Returns the bucket of `$ns` if the highest bit of `$ns - 1` is at most one of these exponents,
/// compared in ascending order.
///
/// Each comparison takes two instructions; a shift by a variable takes more. The comparisons are
/// expanded here, since LLVM turns a loop over them into such a shift.
macro_rules! tried {
    ($ns:ident: $($exp:literal)*) => {
        $(if $ns <= 2u64 << $exp {
            return bucket_of($ns - 1, $exp);
        })*
    };
}

/// Bucket of a duration in nanoseconds, from 0 to [`DURATION_BUCKETS`]` - 1`.
#[inline(always)]
#[must_use]
pub fn duration_bucket(ns: u64) -> usize {
    if ns <= 1 << 12 {
        if ns <= 1 << MIN_EXP {
            return 0;
        }
        tried!(ns: 8 9 10 11);
    }
    // Most durations are below 16 ms.
    tried!(ns: 12 13 14 15 16 17 18 19 20 21 22 23);
    rare_duration_bucket(ns)
}

/// The same as [`duration_bucket`], computed without branches. The code is shorter, but all of it runs: use it for rare events.
///
/// A separate function, so that the common case needs fewer registers. `#[cold]` would put it into
/// a section of the BPF object that aya does not know.
#[inline(never)]
#[must_use]
pub fn rare_duration_bucket(ns: u64) -> usize {
    let last = 1 << MAX_EXP;
    let n = ns.wrapping_sub(is_nonzero(ns));
    let n = select(is_nonzero(n >> MAX_EXP), [n, last]);
    let is_first = is_nonzero(n >> MIN_EXP) ^ 1;
    let n = n | is_first << MIN_EXP;
    let mut exp = 0;
    // A `for` could become a loop, which old verifiers refuse.
    macro_rules! halve {
        ($($bits:literal)*) => {
            $(exp += (is_nonzero(n >> exp >> $bits) * $bits) as u32;)*
        };
    }
    halve!(32 16 8 4 2 1);
    let bucket = bucket_of(n, exp) as u64;
    (bucket & is_first.wrapping_sub(1)) as usize
}

/// Bucket of a number whose highest bit is `exp`.
#[inline(always)]
fn bucket_of(n: u64, exp: u32) -> usize {
    // From 8 to 15 for every `exp`. `opaque` keeps LLVM from merging the shifts by constants into
    // one shift by a variable.
    let leading = opaque((n >> (exp - SUB_BITS)) as usize);
    leading + (((exp - MIN_EXP) << SUB_BITS) as usize) + 1 - (1 << SUB_BITS)
}

/// Inclusive upper edge of a bucket in nanoseconds; `None` for the last bucket.
#[must_use]
pub const fn duration_upper_ns(bucket: usize) -> Option<u64> {
    if bucket >= DURATION_BUCKETS - 1 {
        return None;
    }
    if bucket == 0 {
        return Some(1 << MIN_EXP);
    }
    let n = bucket as u32 - 1;
    let exp = MIN_EXP + (n >> SUB_BITS);
    let sub = (n & ((1 << SUB_BITS) - 1)) as u64;
    Some((1 << exp) + ((sub + 1) << (exp - SUB_BITS)))
}

/// log2 of the edges that metrics export, in nanoseconds: every octave from 512 ns to 17 ms, then
/// every second one up to 73 minutes.
pub const DURATION_EDGE_EXPS: [u32; 25] = [
    9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 28, 30, 32, 34, 36, 38, 40,
    42,
];

/// Inclusive upper edges of the passes histogram.
///
/// A pin that failed before its first pass has 0. The edges 10 and 100 are the limits of migration
/// and isolation in the proposal of 2020 (`PINNABLE_MIGRATE_MAX`, `PINNABLE_ISOLATE_MAX`).
pub const PASS_EDGES: [u32; 18] = [
    0, 1, 2, 3, 4, 5, 6, 8, 10, 20, 50, 100, 200, 500, 1_000, 10_000, 100_000, 1_000_000,
];

/// Number of passes buckets, including the one beyond the last edge.
pub const PASS_BUCKETS: usize = PASS_EDGES.len() + 1;

/// Bucket of a number of passes, from 0 to [`PASS_BUCKETS`]` - 1`.
#[inline(always)]
#[must_use]
pub fn pass_bucket(passes: u32) -> usize {
    // The first seven edges are consecutive and hold nearly every pin.
    const DIRECT: usize = 7;
    if (passes as usize) < DIRECT {
        return passes as usize;
    }
    let mut bucket = DIRECT;
    while bucket < PASS_EDGES.len() && passes > PASS_EDGES[bucket] {
        bucket += 1;
    }
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn duration_edges_are_inclusive_and_contiguous() {
        for bucket in 0..DURATION_BUCKETS - 1 {
            let upper = duration_upper_ns(bucket).unwrap();
            assert_eq!(duration_bucket(upper), bucket, "upper edge of {bucket}");
            assert_eq!(duration_bucket(upper + 1), bucket + 1);
        }
        assert_eq!(duration_bucket(0), 0);
        assert_eq!(duration_bucket(u64::MAX), DURATION_BUCKETS - 1);
    }

    #[test]
    fn shown_edges_are_edges_of_buckets() {
        for exp in DURATION_EDGE_EXPS {
            let edge = 1u64 << exp;
            assert_eq!(duration_upper_ns(duration_bucket(edge)), Some(edge));
        }
    }

    #[test]
    fn the_direct_pass_buckets_match_the_table() {
        for (bucket, edge) in PASS_EDGES.iter().enumerate() {
            assert_eq!(pass_bucket(*edge), bucket);
            assert!(pass_bucket(edge + 1) > bucket);
        }
        assert_eq!(pass_bucket(u32::MAX), PASS_BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn rare_durations_have_the_same_buckets(bits in 0..64u32, rest in any::<u64>()) {
            for ns in [1 << bits, (1 << bits) + 1, (1 << bits) - 1, rest >> bits] {
                prop_assert_eq!(rare_duration_bucket(ns), duration_bucket(ns), "{} ns", ns);
            }
        }

        #[test]
        fn a_bucket_is_within_six_percent(ns in (1u64 << MIN_EXP) + 1..1u64 << MAX_EXP) {
            let bucket = duration_bucket(ns);
            let (lower, upper) = (duration_upper_ns(bucket - 1).unwrap(), duration_upper_ns(bucket).unwrap());
            prop_assert!(lower < ns && ns <= upper);
            // The harmonic mean of the edges minimises the largest relative error in the bucket.
            let middle = 2.0 * lower as f64 * upper as f64 / (lower + upper) as f64;
            prop_assert!((middle / ns as f64 - 1.0).abs() <= 0.06);
        }
    }
}
