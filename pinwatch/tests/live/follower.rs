//! A follower of the daemon that keeps every event.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use pinwatch::model::filter::Filter;
use pinwatch::model::session::Lost;
use pinwatch::stream::connect::connect;
use pinwatch::stream::feed::Update;
use pinwatch_common::record::PinEvent;
use tokio::runtime;
use tokio::sync::Notify;

const SOCKET: &str = "/run/pinwatch/pinwatch.sock";

/// A follower in a thread of its own.
pub struct Follower {
    finish: Arc<Notify>,
    thread: JoinHandle<Result<Followed>>,
}

/// The events that a follower got, and those that it lost.
#[derive(Default)]
pub struct Followed {
    pub pins: Vec<PinEvent>,
    pub lost: Lost,
}

impl Follower {
    /// Connects. Returns once the kernel sends an event for every pin.
    pub fn start() -> Self {
        let finish = Arc::<Notify>::default();
        let (ready, started) = mpsc::channel();
        let asked = Arc::clone(&finish);
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(follow(&asked, &ready))
        });
        if started.recv().is_err() {
            let ended = thread.join().expect("it does not panic");
            panic!("cannot follow: {:?}", ended.err());
        }
        Self { finish, thread }
    }

    /// Ends the follower. Returns the events of all pins that ended before this call.
    pub fn finish(self) -> Followed {
        self.finish.notify_one();
        let followed = self.thread.join().expect("it does not panic");
        followed.expect("the daemon sends until the end")
    }
}

async fn follow(asked: &Notify, ready: &mpsc::Sender<()>) -> Result<Followed> {
    let mut feed = connect(Path::new(SOCKET), &Filter::default()).await?;
    let mut followed = Followed::default();
    loop {
        let update = tokio::select! {
            update = feed.next() => update.context("no last update")??,
            () = asked.notified() => {
                feed.finish();
                continue;
            }
        };
        match update {
            Update::Start(_) => ready.send(()).context("nobody waits")?,
            Update::Pins(pins) => followed.pins.extend(pins),
            Update::Holds(_)
            | Update::Refusals(_)
            | Update::WallOffset(_)
            | Update::Tick { .. } => {}
            Update::End { lost, .. } => {
                followed.lost = lost;
                return Ok(followed);
            }
        }
    }
}
