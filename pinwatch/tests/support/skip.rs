//! Tests that do not apply to the kernel they run on.

/// Ends a test that does not apply here. `cargo xtask test` counts it as skipped, with the reason.
macro_rules! skip {
    ($($reason:tt)*) => {{
        println!("skipped: {}", format_args!($($reason)*));
        return;
    }};
}
