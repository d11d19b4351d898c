//! What the commands that watch a kernel share: attaching to it, and a feed of its
//! pins, from here or from a daemon.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

use crate::cli::Follow;
use crate::host::heap;
use crate::kernel::facts::Facts;
use crate::probe::decision::Verdict;
use crate::probe::plan::{Plan, Selection};
use crate::probe::table::wanted;
use crate::source::error::LiveError;
use crate::source::live::{Live, Options};
use crate::stream::connect::connect;
use crate::stream::feed::{Feed, feed};
use crate::stream::follow::follow;
use crate::stream::hub::Hub;
use crate::stream::replay::replay;
use crate::stream::ring_reader::read_ring;

/// Age from which a pin is stuck, where nothing else is said.
pub const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Attaches to the running kernel, and says in the log what is lost. That begins at
/// once, in a thread of its own, which has the capabilities that the caller has now,
/// and ends with them.
pub fn attach(selection: Selection, options: Options) -> impl Future<Output = Result<Live>> {
    let (done, live) = oneshot::channel();
    let thread = thread::spawn(move || {
        let facts = Facts::gather(&wanted());
        let plan = Plan::new(&facts, selection);
        report(&facts, &plan);
        // Whoever asked may have been stopped meanwhile.
        let _ = done.send(Live::attach(&facts, &plan, options));
    });
    let attaching = Attaching {
        live,
        thread: Some(thread),
    };
    attaching.done()
}

/// Dropped before it is done, it waits until it is, and detaches again.
struct Attaching {
    live: oneshot::Receiver<Result<Live, LiveError>>,
    thread: Option<JoinHandle<()>>,
}

impl Attaching {
    async fn done(mut self) -> Result<Live> {
        let live = (&mut self.live).await;
        let live = live.context("attaching panicked")??;
        report_hooks(&live);
        heap::give_back();
        Ok(live)
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // What it panicked with is on stderr.
            let _ = thread.join();
        }
    }
}

/// One line for each hook that was planned and failed.
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

/// Pins as a follower wants them: from a recording, from a daemon, or attached to
/// here. `speed` is that of a recording, where the user says nothing.
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
    tokio::spawn(read_ring(events, Arc::clone(&hub), syncs));
    let (sink, updates) = feed();
    tokio::spawn(follow(hub, move || live.state(), args.filter.clone(), sink));
    Ok(updates)
}

/// One line for what is watched, and one for each loss.
fn report(facts: &Facts, plan: &Plan) {
    tracing::info!("kernel {}, era {}", facts.release, plan.era);
    if !plan.unusable.is_empty() {
        return;
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
