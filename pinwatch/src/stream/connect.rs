//! The other end of the daemon's socket.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Error, Result, anyhow};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio_util::codec::Framed;

use super::feed::{Feed, Sink, Update, feed};
use super::wire;
use crate::model::filter::Filter;

/// Follows the daemon that listens on a socket.
pub async fn connect(path: &Path, filter: &Filter) -> Result<Feed> {
    let stream = UnixStream::connect(path).await.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                "; is `pinwatch run` running? Without --connect this command attaches by itself"
            }
            ErrorKind::PermissionDenied => "; only root may follow it",
            _ => "",
        };
        anyhow!("no daemon to follow on {}: {error}{hint}", path.display())
    })?;
    let mut frames = Framed::new(stream, wire::codec());
    frames
        .send(Bytes::from(serde_json::to_vec(filter)?))
        .await?;
    let (sink, feed) = feed();
    tokio::spawn(read(frames, sink));
    Ok(feed)
}

async fn read(mut frames: Framed<UnixStream, wire::Codec>, sink: Sink) {
    let mut finishing = false;
    loop {
        tokio::select! {
            frame = frames.next() => {
                let update = update(frame);
                let last = matches!(update, Ok(Update::End { .. }) | Err(_));
                if !sink.send(update).await || last {
                    return;
                }
            }
            () = sink.finished(), if !finishing => {
                finishing = true;
                // A daemon that is gone shows at the next read.
                let _ = frames.get_mut().shutdown().await;
            }
        }
    }
}

fn update<B: AsRef<[u8]>>(frame: Option<std::io::Result<B>>) -> Result<Update> {
    let frame = frame.ok_or_else(|| Error::msg("the daemon ended"))?;
    let frame = frame.context("the daemon's socket")?;
    wire::decode(frame.as_ref()).context("the daemon's answer")
}
