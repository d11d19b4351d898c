//! HTTP requests of a client to the daemon, with and without passwords.
#![forbid(unsafe_code)]

use std::sync::{Arc, LazyLock};

use crate::file::MemoryFile;
use pinwatch::model::state::State;
use pinwatch::output::http::{Source, Web, router};
use pinwatch::web::host::Hosts;
use pinwatch::web::limits::Limits;
use pinwatch::web::reload::Current;
use pinwatch::web::serve::serve_stream;
use prometheus::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes of an answer after which the client closes the connection: `/events` has no end.
const ENOUGH: u64 = 1 << 20;

/// Settings without and with a user.
static SETTINGS: LazyLock<[Arc<Current>; 2]> = LazyLock::new(|| {
    let file = MemoryFile::new(
        b"basic_auth_users:\n  a: $2y$04$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi\n",
    );
    let settings = [None, Some(file.path())]
        .map(|path| Arc::new(Current::open(path.as_deref()).expect("valid settings")));
    // The settings are read again when the file changes, so it must stay.
    std::mem::forget(file);
    settings
});

/// Feeds one input.
pub fn run(data: &[u8]) {
    let Some((kind, request)) = data.split_last() else {
        return;
    };
    let source: Source = Arc::new(|| Some(State::empty("6.12", "folios")));
    let web = Web {
        registry: Registry::new(),
        scraped: Arc::clone(&source),
        source,
        stacks: Arc::new(|_| None),
    };
    let router = router(web).expect("an empty registry");
    let current = Arc::clone(&SETTINGS[usize::from(kind % 2)]);
    crate::runtime().block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(serve_stream(
            server,
            router,
            current,
            Limits::DEFAULT,
            Hosts::default(),
        ));
        let _ = client.write_all(request).await;
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        let _ = client.take(ENOUGH).read_to_end(&mut answer).await;
        let _ = serving.await.expect("no panic");
    });
}
