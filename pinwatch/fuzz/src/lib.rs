//! Code that the fuzz targets share.
#![forbid(unsafe_code)]

pub mod consume;
pub mod events;
pub mod file;
pub mod frames;
pub mod targets;

use std::env;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Time between two writes of the sum.
const EACH: Duration = Duration::from_millis(100);

/// Bytes of all inputs so far, and the file that they go to.
struct Bytes {
    sum: u64,
    to: Option<File>,
    written: Instant,
}

/// Feeds an input to a target, and counts it.
pub fn feed(target: fn(&[u8]), input: &[u8]) {
    count(input);
    target(input);
}

/// Counts an input. The bytes of all inputs go to the file `$PINWATCH_FUZZ_BYTES` for `cargo xtask fuzz`, at
/// most [`EACH`] late.
fn count(input: &[u8]) {
    static BYTES: LazyLock<Mutex<Bytes>> = LazyLock::new(|| {
        let path = env::var_os("PINWATCH_FUZZ_BYTES");
        Mutex::new(Bytes {
            sum: 0,
            to: path.and_then(|path| OpenOptions::new().write(true).open(path).ok()),
            written: Instant::now(),
        })
    });
    let mut bytes = BYTES.lock().expect("no holder panics");
    bytes.sum += input.len() as u64;
    if bytes.written.elapsed() >= EACH
        && let Some(to) = &bytes.to
    {
        let _ = to.write_all_at(&bytes.sum.to_le_bytes(), 0);
        bytes.written = Instant::now();
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
