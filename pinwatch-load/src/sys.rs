//! Small edges to the system: stopping on signals, limits, time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::time::{ClockId, clock_gettime};

/// How often those who wait look whether they should stop.
pub const TICK: Duration = Duration::from_millis(50);

static STOP: AtomicBool = AtomicBool::new(false);

/// Something that one thread tells another.
#[derive(Clone, Default)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The first SIGINT or SIGTERM asks the load to end; the second ends the process.
pub fn stop_on_signals() -> nix::Result<()> {
    extern "C" fn on_signal(_: libc::c_int) {
        request_stop();
    }
    let flags = SaFlags::SA_RESTART | SaFlags::SA_RESETHAND;
    let action = SigAction::new(SigHandler::Handler(on_signal), flags, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

pub fn request_stop() {
    STOP.store(true, Ordering::Release);
}

pub fn stop_requested() -> bool {
    STOP.load(Ordering::Acquire)
}

/// Sleeps, unless it is to stop.
pub fn sleep(time: Duration) {
    let end = Instant::now() + time;
    while !stop_requested() && Instant::now() < end {
        std::thread::sleep(TICK.min(end.saturating_duration_since(Instant::now())));
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Raises RLIMIT_MEMLOCK as far as it goes, so that a pin's ENOMEM is not about it.
pub fn raise_memlock_limit() {
    let resource = Resource::RLIMIT_MEMLOCK;
    if setrlimit(resource, RLIM_INFINITY, RLIM_INFINITY).is_err()
        && let Ok((_, hard)) = getrlimit(resource)
    {
        // Raising the soft limit to the hard one is always permitted.
        let _ = setrlimit(resource, hard, hard);
    }
}

/// What the C library calls an errno. Rust's own text ends in its number.
pub fn meaning(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}
