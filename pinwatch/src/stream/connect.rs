//! Client of the daemon's socket.
#![forbid(unsafe_code)]

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

/// Follows the daemon that listens on the Unix socket at `path`.
pub async fn connect(path: &Path, filter: &Filter) -> Result<Feed> {
    let stream = UnixStream::connect(path).await.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                "; is `pinwatch run` running? Start it, or leave out --connect to attach without a daemon"
            }
            ErrorKind::PermissionDenied => {
                "; only root may follow it: run this command as root, or as the daemon's user"
            }
            _ => "",
        };
        anyhow!(
            "cannot connect to the daemon's socket {}: {error}{hint}",
            path.display()
        )
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
                // If the daemon has exited, the next read reports that.
                let _ = frames.get_mut().shutdown().await;
            }
        }
    }
}

fn update<B: AsRef<[u8]>>(frame: Option<std::io::Result<B>>) -> Result<Update> {
    let frame = frame.ok_or_else(|| {
        Error::msg("the daemon closed the connection: it has stopped; its log says why")
    })?;
    let frame = frame.context("cannot read from the daemon's socket")?;
    wire::decode(frame.as_ref()).context("cannot follow the daemon")
}
