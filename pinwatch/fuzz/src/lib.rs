//! Code that the fuzz targets share.
#![forbid(unsafe_code)]

pub mod consume;
pub mod events;
pub mod file;
pub mod frames;

use std::env;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Inputs between two writes of the sum.
const EACH: u64 = 256;

/// Counts an input. The bytes of all inputs go to the file `$PINWATCH_FUZZ_BYTES` for `cargo xtask fuzz`,
/// at most 256 inputs late.
pub fn count(input: &[u8]) {
    static INPUTS: AtomicU64 = AtomicU64::new(0);
    static BYTES: AtomicU64 = AtomicU64::new(0);
    static TO: LazyLock<Option<File>> = LazyLock::new(|| {
        let path = env::var_os("PINWATCH_FUZZ_BYTES")?;
        OpenOptions::new().write(true).open(path).ok()
    });
    let bytes = BYTES.fetch_add(input.len() as u64, Ordering::Relaxed) + input.len() as u64;
    if INPUTS.fetch_add(1, Ordering::Relaxed) % EACH == 0
        && let Some(to) = &*TO
    {
        let _ = to.write_all_at(&bytes.to_le_bytes(), 0);
    }
}

/// A runtime whose clock jumps to the next timer when all tasks wait.
#[must_use]
pub fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}
