//! A filter that a client sends to the daemon's socket, through serving.
#![forbid(unsafe_code)]

use std::sync::{Arc, LazyLock};

use bytemuck::Zeroable as _;
use pinwatch::model::filter::Filter;
use pinwatch::model::in_flight::Row;
use pinwatch::model::state::State;
use pinwatch::stream::hub::Hub;
use pinwatch::stream::serve::serve_follower;
use pinwatch_common::event_filter::name_words;
use pinwatch_common::record::{Pin, PinEvent};
use pinwatch_common::weak::Holder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

static EVENTS: LazyLock<Vec<PinEvent>> = LazyLock::new(|| {
    let returned = [256, -12, i64::MIN];
    let events = returned.into_iter().map(|returned| PinEvent {
        holder: Holder::NONE,
        pin: Pin {
            tid: 7,
            tgid: 7,
            returned,
            duration_ns: 1000,
            passes: 2,
            ended: 1,
            ..Pin::zeroed()
        },
        comm: *b"qemu\0\0\0\0\0\0\0\0\0\0\0\0",
    });
    events.collect()
});

/// Feeds one input.
pub fn run(data: &[u8]) {
    if let Ok(filter) = serde_json::from_slice::<Filter>(data) {
        let listening = filter.kernel();
        for event in &*EVENTS {
            // The kernel may send more than the filter selects, and never less.
            let sent = listening.wants(&event.pin, name_words(event.comm));
            assert!(sent || !filter.ended(event));
        }
        let _ = filter.in_flight(&Row::default());
        let _ = filter.words();
    }
    crate::runtime().block_on(served(data));
}

/// Sends the filter to a daemon, and reads the answer to its end.
async fn served(filter: &[u8]) {
    let (mut client, server) = UnixStream::pair().expect("two sockets");
    let (hub, mut syncs) = Hub::new();
    let publisher = Arc::clone(&hub);
    let reader = tokio::spawn(async move {
        while let Some(done) = syncs.recv().await {
            publisher.publish(EVENTS.iter().copied());
            let _ = done.send(());
        }
    });
    let state = || State::empty("6.12", "folios");
    let serving = tokio::spawn(serve_follower(server, hub, state));
    let length = u32::try_from(filter.len()).expect("a small input");
    client.write_all(&length.to_be_bytes()).await.expect("sent");
    // The daemon may refuse the filter by its length and not read it.
    let _ = client.write_all(filter).await;
    let _ = client.shutdown().await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    drop(client);
    let served = serving.await.expect("no panic");
    // A follower's task that panics ends the connection without a word.
    assert!(served.is_err() || !answer.is_empty());
    reader.abort();
}
