//! Threads that change mappings all the time. While a pin holds `mmap_lock`, each of them waits for it.
#![forbid(unsafe_code)]

use std::sync::mpsc;
use std::thread::{self, JoinHandle, Thread};

use anyhow::Context as _;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags};

use crate::memory::mapping::Mapping;
use crate::signals;
use crate::sys;

/// `CLOCK_MONOTONIC` in nanoseconds right before and after a system call.
pub type Call = [u64; 2];

/// The threads, which begin with [`begin`](Self::begin).
pub struct Waiters {
    threads: Vec<JoinHandle<nix::Result<Call>>>,
    begin: signals::Flag,
    end: signals::Flag,
}

impl Waiters {
    pub fn new(count: usize) -> anyhow::Result<Self> {
        let (begin, end) = (signals::Flag::default(), signals::Flag::default());
        let mut waiters = Self {
            threads: Vec::new(),
            begin,
            end,
        };
        for number in 0..count {
            let own = page().context("cannot map a page for a thread of --waiters")?;
            let (begin, end) = (waiters.begin.clone(), waiters.end.clone());
            let (ready, is_ready) = mpsc::channel();
            waiters.threads.push(thread::spawn(move || {
                let _ = ready.send(());
                while !begin.is_set() && !end.is_set() {
                    thread::park();
                }
                longest_call(number, own, &end)
            }));
            // The start of a thread maps memory too.
            is_ready.recv()?;
        }
        Ok(waiters)
    }

    pub fn begin(&self) {
        self.begin.set();
        self.wake();
    }

    /// Ends the threads. Returns the longest call of each.
    pub fn end(mut self) -> anyhow::Result<Vec<Call>> {
        self.stop()
            .into_iter()
            .map(|call| call.context("a thread of --waiters cannot change a mapping"))
            .collect()
    }

    fn stop(&mut self) -> Vec<nix::Result<Call>> {
        self.end.set();
        self.wake();
        let threads = self.threads.drain(..);
        threads
            .map(|thread| thread.join().expect("a waiter does not panic"))
            .collect()
    }

    fn wake(&self) {
        self.threads
            .iter()
            .map(JoinHandle::thread)
            .for_each(Thread::unpark);
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Changes mappings until the end. The number of the thread selects the system call.
fn longest_call(number: usize, mut own: Mapping, end: &signals::Flag) -> nix::Result<Call> {
    let mut longest: Call = [0, 0];
    while !end.is_set() {
        let before = sys::monotonic_ns();
        match number % 3 {
            0 => drop(page()?),
            1 => own.forbid_writes()?,
            // Takes the lock for writing, as the others do.
            _ => own.advise(MmapAdvise::MADV_DONTFORK)?,
        }
        let after = sys::monotonic_ns();
        if after - before > longest[1] - longest[0] {
            longest = [before, after];
        }
    }
    Ok(longest)
}

fn page() -> nix::Result<Mapping> {
    Mapping::anonymous(1, ProtFlags::PROT_READ, MapFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_reports_its_longest_call() {
        let waiters = Waiters::new(3).expect("pages can be mapped");
        let before = sys::monotonic_ns();
        waiters.begin();
        signals::sleep(signals::TICK);
        let calls = waiters.end().expect("mappings can be changed");
        let after = sys::monotonic_ns();
        assert_eq!(calls.len(), 3);
        for [began, ended] in calls {
            assert!(before <= began && began <= ended && ended <= after);
        }
    }
}
