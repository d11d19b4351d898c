//! Attaching to the kernel, and the feed of pins that record, tail and top share.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

use crate::cli::Follow;
use crate::host::{calibration, heap};
use crate::kernel::facts::Facts;
use crate::model::format::Clock;
use crate::probe::decision::Verdict;
use crate::probe::plan::{Plan, Selection};
use crate::probe::table::wanted;
use crate::recording::replay::Replay;
use crate::source::error::LiveError;
use crate::source::holds::HoldTimer;
use crate::source::live::{Live, Options};
use crate::stream::connect::connect;
use crate::stream::feed::{Feed, feed};
use crate::stream::follow::follow;
use crate::stream::hub::Hub;
use crate::stream::replay::replay;
use crate::stream::ring_reader::read_ring;

/// Age from which a pin in flight is stuck in commands without `--stuck-after`.
pub const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Attaches to the running kernel and logs each measurement that is lost.
///
/// The work starts at once, before the future is polled, in a thread of its own. That thread inherits the
/// caller's current capabilities and takes them with it when it ends.
///
/// # Errors
///
/// If the plan cannot be attached.
pub fn attach(selection: Selection, options: Options) -> impl Future<Output = Result<Live>> {
    let (done, live) = oneshot::channel();
    let thread = thread::spawn(move || {
        let facts = Facts::gather(&wanted());
        let plan = Plan::new(&facts, selection);
        report(&facts, &plan);
        // The receiver is gone if a signal has stopped the command meanwhile.
        let _ = done.send(Live::attach(&facts, &plan, options));
    });
    let attaching = Attaching {
        live,
        thread: Some(thread),
    };
    attaching.done()
}

/// The clock of the replayed recording, or of this machine.
pub fn clock(follow: &Follow) -> Clock {
    Clock::of(match &follow.replay {
        // A file that cannot be read is an error of the feed.
        Some(path) => Replay::open(path)
            .ok()
            .and_then(|recording| recording.header().machine.counts_instructions),
        None => calibration::counts_instructions(),
    })
}

/// An attach in progress. If it is dropped early, it waits for the thread; the result is then dropped,
/// which detaches.
struct Attaching {
    live: oneshot::Receiver<Result<Live, LiveError>>,
    thread: Option<JoinHandle<()>>,
}

impl Attaching {
    async fn done(mut self) -> Result<Live> {
        let live = (&mut self.live).await;
        let live =
            live.context("attaching ended in a panic: report the message above as a bug")??;
        report_hooks(&live);
        heap::give_back();
        Ok(live)
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed to stderr.
            let _ = thread.join();
        }
    }
}

/// Logs a line for each planned hook that the kernel refused.
fn report_hooks(live: &Live) {
    for hook in live.attached() {
        if let Some(reason) = &hook.error {
            tracing::warn!(
                "{}: cannot attach to {}: {reason}",
                hook.measurement.name(),
                hook.attachment.target
            );
        }
    }
}

/// Opens a feed of pins: from a recording, from a daemon, or from hooks that this process attaches.
/// `speed` is the default speed of a recording; `None` replays it as fast as possible.
///
/// # Errors
///
/// If the recording cannot be read, the daemon cannot be reached, or the hooks cannot be attached.
pub async fn open(args: &Follow, speed: Option<f64>) -> Result<Feed> {
    if let Some(path) = &args.replay {
        return replay(path, args.speed.or(speed), args.filter.clone());
    }
    if let Some(path) = &args.connect {
        return connect(path, &args.filter).await;
    }
    let options = Options {
        stuck_after: STUCK_AFTER,
        bpf_log_level: 0,
    };
    let mut live = attach(args.selection.clone(), options).await?;
    let events = live.take_events()?;
    let (hub, syncs) = Hub::new();
    tokio::spawn(measure_holds(live.take_hold_timer()));
    tokio::spawn(read_ring(events, Arc::clone(&hub), syncs));
    let (sink, updates) = feed();
    tokio::spawn(follow(hub, move || live.state(), args.filter.clone(), sink));
    Ok(updates)
}

/// Measures how long blockers hold, if this kernel allows it. An error ends the measurement alone.
pub async fn measure_holds(timer: Option<HoldTimer>) -> Result<()> {
    if let Some(timer) = timer {
        let Err(error) = timer.run().await;
        tracing::warn!("how long blockers hold is no longer measured: {error:#}");
    }
    Ok(())
}

/// Logs the kernel with its era, and a line for each lost measurement.
fn report(facts: &Facts, plan: &Plan) {
    tracing::info!("kernel {}, era {}", facts.release, plan.era);
    if !plan.unusable.is_empty() {
        return;
    }
    if plan.misses_uncounted() {
        tracing::warn!(
            "tracefs cannot be written, so kprobes can miss calls and returns without a count; `pinwatch check` has the details"
        );
    }
    for decision in &plan.decisions {
        if let Verdict::Lost { reason } = &decision.verdict {
            tracing::warn!(
                "{}: {reason}; {}",
                decision.measurement.name(),
                decision.measurement.loss()
            );
        }
    }
}
