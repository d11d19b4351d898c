//! What a view is fed with. A view knows only [`Feed`]; whatever fills one can be watched.

use std::sync::Arc;

use anyhow::Result;
use pinwatch_common::record::PinEvent;
use tokio::sync::{Notify, mpsc};

use crate::model::agent_status::AgentStatus;
use crate::model::session::{Lost, Start};
use crate::model::view::View;

/// What a view is fed with: `Start`, then any number of `Pins` and `Tick`, then `End`.
#[derive(Clone, Debug)]
pub enum Update {
    Start(Start),
    /// Pins that ended, in the order in which they did on each CPU; with
    /// [`Filter::passes`](crate::model::filter::Filter::passes) also pins that begin a retry.
    Pins(Vec<PinEvent>),
    /// Twice a second: everything else.
    Tick {
        view: Box<View>,
        lost: Lost,
    },
    /// What is known after the last pin.
    End {
        lost: Lost,
        status: Box<AgentStatus>,
    },
}

/// Updates between a source and its view that may wait.
const WAITING: usize = 2;

/// A view's end.
pub struct Feed {
    updates: mpsc::Receiver<Result<Update>>,
    finish: Arc<Notify>,
}

/// A source's end.
pub struct Sink {
    updates: mpsc::Sender<Result<Update>>,
    finish: Arc<Notify>,
}

/// Both ends.
#[must_use]
pub fn feed() -> (Sink, Feed) {
    let (sender, updates) = mpsc::channel(WAITING);
    let finish = Arc::new(Notify::new());
    let sink = Sink {
        updates: sender,
        finish: Arc::clone(&finish),
    };
    (sink, Feed { updates, finish })
}

impl Feed {
    /// The next update; none after the last. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Result<Update>> {
        self.updates.recv().await
    }

    /// Asks for the end: what has happened until now still comes.
    pub fn finish(&self) {
        self.finish.notify_one();
    }
}

impl Sink {
    /// Hands an update over; false when nobody takes it any more.
    pub async fn send(&self, update: Result<Update>) -> bool {
        self.updates.send(update).await.is_ok()
    }

    /// Waits until the view asks for the end, or is gone.
    pub async fn finished(&self) {
        tokio::select! {
            () = self.finish.notified() => {}
            () = self.updates.closed() => {}
        }
    }
}
