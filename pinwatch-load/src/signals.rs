//! Stopping: SIGINT, SIGTERM and SIGHUP, and the flag that every loop checks.
//!
//! All threads block the signals, and one thread waits for them. A handler could not restore the host.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};

/// How often loops check the flag.
pub const TICK: Duration = Duration::from_millis(50);

static STOP: AtomicBool = AtomicBool::new(false);

/// A flag that one thread sets for another.
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

/// The effect of a second signal.
#[derive(Clone, Copy)]
pub enum Second {
    /// Calls this, then ends the process.
    EndsAfter(fn()),
    /// The parent process decides.
    IsIgnored,
}

/// Blocks the signals in this thread and in those that it starts later. They stay pending until [`watch`].
pub fn block() -> nix::Result<()> {
    stop_signals().thread_block()
}

/// Starts the thread that waits for the blocked signals. The first one requests a stop. Call it once per process.
pub fn watch(second: Second) {
    thread::spawn(move || {
        let signals = stop_signals();
        let mut first = true;
        while let Ok(signal) = signals.wait() {
            request_stop();
            if let Second::EndsAfter(act) = second
                && !first
            {
                act();
                end_by(signal);
            }
            first = false;
        }
    });
}

pub fn request_stop() {
    STOP.store(true, Ordering::Release);
}

pub fn stop_requested() -> bool {
    STOP.load(Ordering::Acquire)
}

/// Sleeps until the time is over or a stop is requested.
pub fn sleep(time: Duration) {
    sleep_unless(time, || false);
}

/// Sleeps until the time is over, a stop is requested, or `done`.
pub fn sleep_unless(time: Duration, done: impl Fn() -> bool) {
    let end = Instant::now() + time;
    while !stop_requested() && !done() && Instant::now() < end {
        thread::sleep(TICK.min(end.saturating_duration_since(Instant::now())));
    }
}

fn end_by(signal: Signal) {
    let mut only = SigSet::empty();
    only.add(signal);
    // The default action ends the process, so that its parent sees the signal.
    let _ = raise(signal);
    let _ = only.thread_unblock();
}

fn stop_signals() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // nohup ignores SIGHUP.
    if !is_ignored(Signal::SIGHUP) {
        signals.add(Signal::SIGHUP);
    }
    signals
}

fn is_ignored(signal: Signal) -> bool {
    // SAFETY: all zeros is a valid sigaction: integers, a mask, and a handler that may be null.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: changes nothing; the kernel writes the present action to `now`, which lives until the call returns.
    let read = unsafe { libc::sigaction(signal as i32, ptr::null(), &mut now) };
    read == 0 && now.sa_sigaction == libc::SIG_IGN
}
