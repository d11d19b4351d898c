//! The stage of a pin: its memory, the contention, what holds its pages, and the threads that wait behind it.
#![forbid(unsafe_code)]

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::contention::cpu_hog::CpuHog;
use crate::contention::holder::{self, Holder};
use crate::contention::long_term_pin::LongTermPin;
use crate::contention::process::ContendingProcess;
use crate::contention::waiters::{Call, Waiters};
use crate::contention::weak_pin::WeakSpan;
use crate::memory::buffer::Buffer;
use crate::pinner::{Attempt, Pinner};
use crate::plan::Plan;
use crate::signals;
use crate::spec::{Company, Memory};
use crate::sys;

/// The memory of one pin and its contention. Fields drop in order: the contention ends before the memory is unmapped.
pub struct Stage {
    cpu_hog: Option<CpuHog>,
    _process: Option<ContendingProcess>,
    hold: Mutex<Option<Holder>>,
    waiters: Mutex<Option<Waiters>>,
    /// Long-term pins of its preparation that no record has yet.
    pub other_pins: AtomicU64,
    pub buffer: Buffer,
}

/// A pin, and what happened beside it.
pub struct Made {
    pub attempt: Attempt,
    /// When a hold that pins wait for ended: at least, and at most.
    pub hold_ended_ns: Option<[u64; 2]>,
    /// The longest call of each waiter.
    pub waits_ns: Vec<Call>,
}

impl Stage {
    pub fn prepare(plan: &Plan) -> anyhow::Result<Self> {
        let mut buffer = Buffer::new(plan.memory, plan.pages(), plan.stall_for)?;
        let mut other_pins = holder::long_term_pins(plan.hold, &buffer.map);
        if plan.memory == Memory::Ordinary {
            let pages = buffer.map.pages();
            drop(LongTermPin::new(&buffer.map, 0..pages)?);
            other_pins += LongTermPin::pins(pages);
        }
        let hold = holder::take(plan.hold, &mut buffer)?;
        if let Some(Holder::Weak(_)) = hold {
            signals::sleep(plan.weak_for);
        }
        let (process, cpu_hog) = match plan.company {
            Company::None => (None, None),
            Company::Fork => (Some(ContendingProcess::sharing()?), None),
            Company::Reader => (Some(ContendingProcess::reading(&buffer.map)?), None),
            Company::Hog => (None, Some(CpuHog::of_pin(&buffer.map, plan.stall_for)?)),
            Company::Drain => (None, Some(CpuHog::of_drain(&buffer.map, plan.stall_for)?)),
        };
        // After the hog has bound this thread to its CPU: they inherit that.
        let waiters = match plan.waiters {
            0 => None,
            count => Some(Waiters::new(count)?),
        };
        Ok(Self {
            cpu_hog,
            _process: process,
            hold: Mutex::new(hold),
            waiters: Mutex::new(waiters),
            other_pins: AtomicU64::new(other_pins),
            buffer,
        })
    }

    /// Ends the hold `after` the pin has returned. Without that a weak pin ends now, and other holds with the stage.
    /// Returns the time of the end, in nanoseconds after the pin's return: at least, and at most.
    pub fn release(
        &self,
        pin_ended_ns: u64,
        after: Option<Duration>,
    ) -> (Option<[u64; 2]>, Option<WeakSpan>) {
        let Some(after) = after else {
            let mut hold = self.hold();
            let weak = hold.take_if(|hold| matches!(hold, Holder::Weak(_)));
            return (None, weak.and_then(Holder::end));
        };
        let since = sys::monotonic_ns().saturating_sub(pin_ended_ns);
        signals::sleep(after.saturating_sub(Duration::from_nanos(since)));
        let (ended, weak) = self.end_hold();
        (Some(ended.map(|at| at.saturating_sub(pin_ended_ns))), weak)
    }

    fn hold(&self) -> MutexGuard<'_, Option<Holder>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the hold. Returns the time of its end: at least, and at most.
    fn end_hold(&self) -> ([u64; 2], Option<WeakSpan>) {
        let mut hold = self.hold();
        let at_least = sys::monotonic_ns();
        let weak = hold.take().and_then(Holder::end);
        ([at_least, sys::monotonic_ns()], weak)
    }

    /// Pins, beside the waiters, and ends a hold meanwhile that the pin waits for.
    pub fn pin(&self, plan: &Plan, pinner: &mut dyn Pinner) -> anyhow::Result<Made> {
        if let Some(cpu_hog) = &self.cpu_hog {
            cpu_hog.wake();
        }
        let waiters = self
            .waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        waiters.iter().for_each(Waiters::begin);
        let (attempt, hold_ended_ns) = self.pin_beside_hold(plan, pinner)?;
        Ok(Made {
            attempt,
            hold_ended_ns,
            waits_ns: waiters.map_or(Ok(Vec::new()), Waiters::end)?,
        })
    }

    fn pin_beside_hold(
        &self,
        plan: &Plan,
        pinner: &mut dyn Pinner,
    ) -> anyhow::Result<(Attempt, Option<[u64; 2]>)> {
        if !plan.hold.makes_pins_wait() {
            return Ok((pinner.pin(&self.buffer)?, None));
        }
        thread::scope(|scope| {
            let (start, started) = mpsc::channel();
            let ended = scope.spawn(move || {
                let _ = start.send(());
                signals::sleep(plan.stall_for);
                self.end_hold().0
            });
            // The pin can wait with the mmap lock, which the start of a thread needs.
            let _ = started.recv();
            let attempt = pinner.pin(&self.buffer)?;
            let ended = ended.join().expect("the thread does not panic");
            Ok((attempt, Some(ended)))
        })
    }
}
