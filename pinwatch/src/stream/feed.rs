//! Channel from a source of updates to a view. A view knows only [`Feed`]; the source may be this
//! process, a daemon or a recording.
#![forbid(unsafe_code)]

use std::sync::Arc;

use anyhow::Result;
use pinwatch_common::hold::HoldRecord;
use pinwatch_common::record::PinEvent;
use pinwatch_common::refusal::Refusal;
use tokio::sync::{Notify, mpsc};

use crate::model::agent_status::AgentStatus;
use crate::model::session::{Lost, Start};
use crate::model::view::View;

/// Message to a view. A feed has one `Start`, any number of the others, then one
/// `End`.
#[derive(Clone, Debug)]
pub enum Update {
    Start(Start),
    /// Pins that ended, in the order of their returns on each CPU. With
    /// [`Filter::passes`](crate::model::filter::Filter::passes) also pins that begin a retry.
    Pins(Vec<PinEvent>),
    /// Ends of holds. The pin of each was in this or an earlier update.
    Holds(Vec<HoldRecord>),
    /// Registrations that were refused. A refusal has no pin, or follows a pin that succeeded.
    Refusals(Vec<Refusal>),
    /// The wall clock was set, or the machine was suspended: the new offset of `CLOCK_REALTIME` from
    /// `CLOCK_MONOTONIC`, for the pins that follow.
    WallOffset(i64),
    /// Summary of the state, and the losses so far: twice a second.
    Tick {
        view: Box<View>,
        lost: Lost,
    },
    /// Losses and agent status after the last pin.
    End {
        lost: Lost,
        status: Box<AgentStatus>,
    },
}

/// Capacity of the channel, in updates.
const CAPACITY: usize = 2;

/// The view's end of the channel.
pub struct Feed {
    updates: mpsc::Receiver<Result<Update>>,
    finish: Arc<Notify>,
}

/// The source's end of the channel.
pub struct Sink {
    updates: mpsc::Sender<Result<Update>>,
    finish: Arc<Notify>,
}

/// Makes a channel and returns both ends.
#[must_use]
pub fn feed() -> (Sink, Feed) {
    let (sender, updates) = mpsc::channel(CAPACITY);
    let finish = Arc::new(Notify::new());
    let sink = Sink {
        updates: sender,
        finish: Arc::clone(&finish),
    };
    (sink, Feed { updates, finish })
}

impl Feed {
    /// Returns the next update, `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Update>> {
        self.updates.recv().await
    }

    /// Asks the source to finish. Updates about earlier pins, and `End`, still arrive.
    pub fn finish(&self) {
        self.finish.notify_one();
    }
}

impl Sink {
    /// Sends an update. Waits while the channel is full; returns false once the view is dropped.
    pub async fn send(&self, update: Result<Update>) -> bool {
        self.updates.send(update).await.is_ok()
    }

    /// Waits until the view finishes or is dropped.
    pub async fn finished(&self) {
        tokio::select! {
            () = self.finish.notified() => {}
            () = self.updates.closed() => {}
        }
    }
}
