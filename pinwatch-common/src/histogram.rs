//! Bucket layout of the two histograms: durations (log-linear) and passes (a
//! table of edges). Pure index arithmetic; the cells live in [`crate::fold`].
//!
//! A duration bucket holds `(lower, upper]`, so that Prometheus' inclusive `le`
//! is exact at every edge.

use crate::opaque::opaque;

/// log2 of the buckets per octave: 8, so that the middle of a bucket is within
/// 6 % of everything in it.
const SUB_BITS: u32 = 3;
/// All of 0 to 2^8 ns is one bucket.
const MIN_EXP: u32 = 8;
/// Beyond 2^43 ns (2.4 hours) is one bucket; a pin was once seen to loop for
/// 65 minutes.
const MAX_EXP: u32 = 43;

/// Number of duration buckets.
pub const DURATION_BUCKETS: usize = (((MAX_EXP - MIN_EXP) << SUB_BITS) + 2) as usize;

/// The bucket of a number whose highest bit is one of these, by trying one after the other: two
/// instructions each, where a shift by a variable needs more. Spelled out, since LLVM makes such a
/// shift out of a loop.
macro_rules! tried {
    ($ns:ident: $($exp:literal)*) => {
        $(if $ns <= 2u64 << $exp {
            return bucket_of($ns - 1, $exp);
        })*
    };
}

/// The bucket for a duration in nanoseconds.
#[inline(always)]
#[must_use]
pub fn duration_bucket(ns: u64) -> usize {
    if ns <= 1 << 12 {
        if ns <= 1 << MIN_EXP {
            return 0;
        }
        tried!(ns: 8 9 10 11);
    }
    // Most are below 16 ms.
    tried!(ns: 12 13 14 15 16 17 18 19 20 21 22 23);
    bucket_of_long(ns)
}

/// The bucket of any longer duration. A function of its own, for the registers that it takes; not
/// `#[cold]`, which is a section of its own in a BPF object, unknown to aya.
#[inline(never)]
fn bucket_of_long(ns: u64) -> usize {
    tried!(ns: 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42);
    DURATION_BUCKETS - 1
}

/// The bucket of a number whose highest bit is `exp`.
#[inline(always)]
fn bucket_of(n: u64, exp: u32) -> usize {
    // From 8 to 15, whatever `exp` is. Opaque, or the shifts by constants become one by a variable.
    let leading = opaque((n >> (exp - SUB_BITS)) as usize);
    leading + (((exp - MIN_EXP) << SUB_BITS) as usize) + 1 - (1 << SUB_BITS)
}

/// The inclusive upper edge of a bucket in nanoseconds; `None` for the last.
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

/// Exponents of two, in nanoseconds, of the edges that metrics show: 512 ns to
/// 73 minutes, every octave up to 17 ms, every second one beyond.
pub const DURATION_EDGE_EXPS: [u32; 25] = [
    9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 28, 30, 32, 34, 36, 38, 40,
    42,
];

/// Inclusive upper edges of the passes histogram. 10 and 100 are the limits
/// that the 2020 proposal gave migration and isolation
/// (`PINNABLE_MIGRATE_MAX`, `PINNABLE_ISOLATE_MAX`); 0 is a pin that failed
/// before its first sweep.
pub const PASS_EDGES: [u32; 18] = [
    0, 1, 2, 3, 4, 5, 6, 8, 10, 20, 50, 100, 200, 500, 1_000, 10_000, 100_000, 1_000_000,
];

/// Number of passes buckets, the one beyond the last edge included.
pub const PASS_BUCKETS: usize = PASS_EDGES.len() + 1;

/// The bucket for a number of passes.
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
        fn a_bucket_is_within_six_percent(ns in (1u64 << MIN_EXP) + 1..1u64 << MAX_EXP) {
            let bucket = duration_bucket(ns);
            let (lower, upper) = (duration_upper_ns(bucket - 1).unwrap(), duration_upper_ns(bucket).unwrap());
            prop_assert!(lower < ns && ns <= upper);
            // The harmonic mean of the edges is the point nearest to all of the bucket.
            let middle = 2.0 * lower as f64 * upper as f64 / (lower + upper) as f64;
            prop_assert!((middle / ns as f64 - 1.0).abs() <= 0.06);
        }
    }
}
