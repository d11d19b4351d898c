//! Small edges to the system: the clock, the memory lock limit, names of errors.
#![forbid(unsafe_code)]

use anyhow::Context as _;
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Raises RLIMIT_MEMLOCK as far as possible, so that it does not cause the ENOMEM of a pin.
pub fn raise_memlock_limit() {
    let resource = Resource::RLIMIT_MEMLOCK;
    if setrlimit(resource, RLIM_INFINITY, RLIM_INFINITY).is_err()
        && let Ok((_, hard)) = getrlimit(resource)
    {
        // Every process may raise the soft limit to the hard one.
        let _ = setrlimit(resource, hard, hard);
    }
}

/// Lowers RLIMIT_MEMLOCK to this number of bytes, and drops CAP_IPC_LOCK from this thread and from those that it starts later:
/// with it, the kernel ignores the limit.
pub fn limit_memlock(bytes: u64) -> anyhow::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, bytes, bytes).context("cannot lower RLIMIT_MEMLOCK")?;
    caps::drop(None, CapSet::Effective, Capability::CAP_IPC_LOCK)
        .context("cannot drop CAP_IPC_LOCK")
}

/// The C library's text of an errno. Rust's own text ends in its number.
pub fn meaning(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}
