//! Makes the pins: threads prepare the memory, start together, pin, locate the pages, and unpin.
//!
//! Threads never print. They send records to the printing thread, and stop early on request.
//! No thread returns between two barriers, not even after an error: the others would wait for it forever.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use nix::unistd::gettid;

use crate::host::device::DeviceLease;
use crate::memory::buffer::Buffer;
use crate::memory::placement::{self, PagesIn, PlacementReader};
use crate::pinner::{self, Attempt, Pinner};
use crate::plan::Plan;
use crate::report::{self, Outcome, Record, Report, Style};
use crate::signals;
use crate::spec::Memory;
use crate::stage::Stage;

pub fn run(
    plan: &Plan,
    device: &DeviceLease,
    placement: Option<&PlacementReader>,
    style: Style,
) -> anyhow::Result<ExitCode> {
    let pinners = (0..plan.threads)
        .map(|_| pinner::open(plan, device))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let job = Job {
        plan,
        placement,
        start: Barrier::new(plan.threads),
        error: Mutex::default(),
        give_up: signals::Flag::default(),
    };
    let together = if plan.same_range { plan.threads } else { 1 };
    let groups: Vec<Group> = (0..plan.threads / together)
        .map(|_| Group::of(together))
        .collect();
    let (sender, records) = mpsc::channel();
    let report = Report::new(
        io::stdout().lock(),
        style,
        plan.repeat.saturating_mul(plan.threads as u64),
    );
    let printed = thread::scope(|scope| {
        for (rank, pinner) in pinners.into_iter().enumerate() {
            let (job, group, sender) = (&job, &groups[rank / together], sender.clone());
            scope.spawn(move || work(job, group, rank % together == 0, pinner, &sender));
        }
        drop(sender);
        print(report, &records)
    });
    if let Some(error) = job
        .error
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        return Err(error);
    }
    printed.finish(signals::stop_requested())?;
    Ok(ExitCode::SUCCESS)
}

/// What all threads share.
struct Job<'a> {
    plan: &'a Plan,
    placement: Option<&'a PlacementReader>,
    start: Barrier,
    /// The first error of any thread.
    error: Mutex<Option<anyhow::Error>>,
    give_up: signals::Flag,
}

/// Threads that pin the same range. A thread with its own range is a group of one.
struct Group {
    stage: Mutex<Option<Arc<Stage>>>,
    meet: Barrier,
}

/// The zones of the pages of a range.
struct Located {
    pages_in: Option<PagesIn>,
    frames: Option<Vec<Option<u64>>>,
    huge: Option<u64>,
}

fn work(
    job: &Job,
    group: &Group,
    is_leader: bool,
    mut pinner: Box<dyn Pinner>,
    records: &Sender<Record>,
) {
    for turn in 0..job.plan.repeat {
        if is_leader {
            group.renew(job);
        }
        group.meet.wait();
        let stage = group.current();
        let before = stage
            .as_ref()
            .and_then(|stage| job.note(|| job.locate(&stage.buffer)));
        if turn == 0 {
            job.start.wait();
        }
        let Some(stage) = stage else { return };
        group.meet.wait();
        let pinned = before.zip(job.note(|| stage.pin(job.plan, pinner.as_mut())));
        group.meet.wait();
        if let Some((before, made)) = pinned
            && let Some(after) = job.note(|| job.locate(&stage.buffer))
        {
            // The receiver is gone after a failed print. The load then ends at the next turn.
            let mut record = job.record(&stage, &made.attempt, before, after);
            (record.held_ns, record.weak) =
                stage.release(made.attempt.ended_ns, job.plan.release_after);
            record.hold_ended_ns = made.hold_ended_ns;
            record.waits_ns = made.waits_ns;
            let _ = records.send(record);
        }
        signals::sleep(job.plan.hold_for);
        job.note(|| pinner.unpin());
    }
}

impl Group {
    fn of(threads: usize) -> Self {
        Self {
            stage: Mutex::default(),
            meet: Barrier::new(threads),
        }
    }

    /// Prepares the stage of the next turn, or removes it when the load is over.
    fn renew(&self, job: &Job) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if job.is_over() {
            *stage = None;
        } else if job.plan.fresh || stage.is_none() {
            // Unmap the old memory first: the machine may not have room for both.
            *stage = None;
            *stage = job.note(|| Stage::prepare(job.plan)).map(Arc::new);
        }
    }

    fn current(&self) -> Option<Arc<Stage>> {
        self.stage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Job<'_> {
    /// Keeps the first error for the end, and lets all threads finish their turn.
    fn note<T>(&self, act: impl FnOnce() -> anyhow::Result<T>) -> Option<T> {
        act()
            .map_err(|error| {
                self.error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error);
                self.give_up.set();
            })
            .ok()
    }

    fn is_over(&self) -> bool {
        self.give_up.is_set() || signals::stop_requested()
    }

    fn locate(&self, buffer: &Buffer) -> anyhow::Result<Located> {
        let Some(placement) = self.placement else {
            return Ok(Located {
                pages_in: None,
                frames: None,
                huge: None,
            });
        };
        let huge = match self.plan.memory {
            Memory::Thp => Some(placement.huge(&buffer.map)?),
            _ => None,
        };
        Ok(Located {
            pages_in: Some(placement.count(&buffer.map)?),
            frames: Some(placement.frames(&buffer.map)?),
            huge,
        })
    }

    fn record(&self, stage: &Stage, attempt: &Attempt, before: Located, after: Located) -> Record {
        let result = match attempt.result {
            Ok(()) => Outcome::Ok,
            Err(errno) => Outcome::Failed(errno),
        };
        Record {
            // The report numbers the records.
            pin: 0,
            tid: gettid().as_raw(),
            via: self.plan.via,
            memory: self.plan.memory,
            pages: self.plan.pages(),
            expected_pins: pinner::expected_pins(self.plan),
            other_pins: stage.other_pins.swap(0, Ordering::Relaxed),
            hold: self.plan.hold,
            result,
            errno: result.errno(),
            started_ns: Some(attempt.started_ns),
            ended_ns: Some(attempt.ended_ns),
            duration_ns: Some(attempt.ended_ns - attempt.started_ns),
            held_ns: None,
            waits_ns: Vec::new(),
            hold_ended_ns: None,
            moved: before
                .frames
                .zip(after.frames)
                .map(|(before, after)| placement::moved(&before, &after)),
            before: before.pages_in,
            after: after.pages_in,
            huge_before: before.huge,
            huge_after: after.huge,
            weak: None,
        }
    }
}

/// Prints records until all threads have ended. A failed print, such as to a closed pipe, requests a stop.
fn print<W: Write>(mut report: Report<W>, records: &Receiver<Record>) -> Printed<W> {
    let mut failed = None;
    loop {
        match records.recv_timeout(signals::TICK) {
            Ok(record) => {
                if failed.is_none() {
                    failed = report.pin(record).err();
                }
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => return Printed { report, failed },
        }
        match failed {
            None => report.tick(),
            Some(_) => signals::request_stop(),
        }
    }
}

struct Printed<W> {
    report: Report<W>,
    failed: Option<io::Error>,
}

impl<W: Write> Printed<W> {
    fn finish(self, interrupted: bool) -> anyhow::Result<()> {
        let done = match self.failed {
            None => self.report.finish(interrupted),
            Some(error) => Err(error),
        };
        report::broken_pipe_is_fine(done)
    }
}
