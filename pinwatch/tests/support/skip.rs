//! Skips tests that do not apply to the running kernel.

/// Returns from a test. `cargo xtask test` counts the test as skipped and prints the reason.
macro_rules! skip {
    ($($reason:tt)*) => {{
        println!("skipped: {}", format_args!($($reason)*));
        return;
    }};
}
