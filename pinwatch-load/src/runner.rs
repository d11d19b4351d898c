//! Makes the pins: threads that set the stage, start together, pin, look where the pages are, and release.
//!
//! Threads never print. They send records to the thread that does, and stop early when they are asked to.
//! Between barriers no thread returns early, not even after an error: the others would wait for it for ever.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use nix::unistd::gettid;

use crate::contention::company::Companion;
use crate::contention::hog::Hog;
use crate::contention::hold::Held;
use crate::memory::buffer::Buffer;
use crate::memory::census::{Census, PagesIn};
use crate::pinner::{self as via, Attempt, Loan, Pinner};
use crate::plan::{Company, Memory, Plan};
use crate::report::{self, Outcome, Record, Report, Style};
use crate::sys;

pub fn run(
    plan: &Plan,
    loan: &Loan,
    census: Option<&Census>,
    style: Style,
) -> anyhow::Result<ExitCode> {
    let pinners = (0..plan.threads)
        .map(|_| via::open(plan, loan))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let job = Job {
        plan,
        census,
        start: Barrier::new(plan.threads),
        error: Mutex::default(),
        give_up: sys::Flag::default(),
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
    printed.finish(sys::stop_requested())?;
    Ok(ExitCode::SUCCESS)
}

/// What all threads have in common.
struct Job<'a> {
    plan: &'a Plan,
    census: Option<&'a Census>,
    start: Barrier,
    /// The first error of any thread.
    error: Mutex<Option<anyhow::Error>>,
    give_up: sys::Flag,
}

/// The memory of one pin and all that gets in its way. Fields drop in order: company and holds go before the pages.
struct Stage {
    hog: Option<Hog>,
    _company: Option<Companion>,
    _held: Option<Held>,
    buffer: Buffer,
}

/// Threads that pin the same range; a thread on its own is a group of one.
struct Group {
    stage: Mutex<Option<Arc<Stage>>>,
    meet: Barrier,
}

/// Where the pages of a range are.
struct Sight {
    pages_in: Option<PagesIn>,
    huge: Option<u64>,
}

fn work(
    job: &Job,
    group: &Group,
    leads: bool,
    mut pinner: Box<dyn Pinner>,
    records: &Sender<Record>,
) {
    for turn in 0..job.plan.repeat {
        if leads {
            group.renew(job);
        }
        group.meet.wait();
        let stage = group.current();
        let before = stage
            .as_ref()
            .and_then(|stage| job.note(|| job.look(&stage.buffer)));
        if turn == 0 {
            job.start.wait();
        }
        let Some(stage) = stage else { return };
        group.meet.wait();
        let pinned = before.zip(job.note(|| stage.pin(pinner.as_mut())));
        group.meet.wait();
        if let Some((before, attempt)) = pinned
            && let Some(after) = job.note(|| job.look(&stage.buffer))
        {
            // Nobody receives any more once printing has failed; the load then ends at the next turn.
            let _ = records.send(job.record(&attempt, before, after));
        }
        sys::sleep(job.plan.hold_for);
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

    /// Sets the stage for the next turn; there is none when it is over.
    fn renew(&self, job: &Job) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if job.is_over() {
            *stage = None;
        } else if job.plan.fresh || stage.is_none() {
            // The old memory goes first: there may not be room for both.
            *stage = None;
            *stage = job.note(|| Stage::set(job.plan)).map(Arc::new);
        }
    }

    fn current(&self) -> Option<Arc<Stage>> {
        self.stage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Stage {
    fn set(plan: &Plan) -> anyhow::Result<Self> {
        let buffer = Buffer::new(plan.memory, plan.pages(), plan.stall_for)?;
        let held = match plan.hold.pages(buffer.map.pages()) {
            none if none.is_empty() => None,
            pages => Some(Held::new(&buffer.map, pages)?),
        };
        let (company, hog) = match plan.company {
            Company::None => (None, None),
            Company::Fork => (Some(Companion::sharing()?), None),
            Company::Reader => (Some(Companion::reading(&buffer.map)?), None),
            Company::Hog => (None, Some(Hog::new(&buffer.map, plan.stall_for)?)),
        };
        Ok(Self {
            hog,
            _company: company,
            _held: held,
            buffer,
        })
    }

    fn pin(&self, pinner: &mut dyn Pinner) -> anyhow::Result<Attempt> {
        if let Some(hog) = &self.hog {
            hog.wake();
        }
        pinner.pin(&self.buffer)
    }
}

impl Job<'_> {
    /// Keeps the first error for the end and lets the load run out.
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
        self.give_up.is_set() || sys::stop_requested()
    }

    fn look(&self, buffer: &Buffer) -> anyhow::Result<Sight> {
        let Some(census) = self.census else {
            return Ok(Sight {
                pages_in: None,
                huge: None,
            });
        };
        let huge = match self.plan.memory {
            Memory::Thp => Some(census.huge(&buffer.map)?),
            _ => None,
        };
        Ok(Sight {
            pages_in: Some(census.count(&buffer.map)?),
            huge,
        })
    }

    fn record(&self, attempt: &Attempt, before: Sight, after: Sight) -> Record {
        let result = match attempt.result {
            Ok(()) => Outcome::Ok,
            Err(errno) => Outcome::Failed(errno),
        };
        Record {
            // The one who prints numbers them.
            pin: 0,
            tid: gettid().as_raw(),
            via: self.plan.via,
            memory: self.plan.memory,
            pages: self.plan.pages(),
            expected_pins: via::expected_pins(self.plan.via, self.plan.pages()),
            result,
            errno: result.errno(),
            started_ns: Some(attempt.started_ns),
            ended_ns: Some(attempt.ended_ns),
            duration_ns: Some(attempt.ended_ns - attempt.started_ns),
            before: before.pages_in,
            after: after.pages_in,
            huge_before: before.huge,
            huge_after: after.huge,
        }
    }
}

/// Prints records until all threads are done. When printing fails, as it does when the reader of a pipe has gone,
/// the load is asked to end.
fn print<W: Write>(mut report: Report<W>, records: &Receiver<Record>) -> Printed<W> {
    let mut failed = None;
    loop {
        match records.recv_timeout(sys::TICK) {
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
            Some(_) => sys::request_stop(),
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
