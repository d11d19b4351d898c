//! `/in-flight/TID/stack`: one stack is taken at a time, whatever clients do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytemuck::Zeroable as _;
use pinwatch::model::state::State;
use pinwatch::output::http::{Source, Web, router};
use pinwatch::source::stack::Stack;
use pinwatch_common::record::Pin;
use prometheus::Registry;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::client::{get, request};
use super::server::Server;

/// A source of stacks that waits until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    running: AtomicUsize,
    most: AtomicUsize,
    taken: AtomicUsize,
}

impl Gate {
    fn take(&self) -> Stack {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let open = self.open.lock().expect("no panic");
        drop(
            self.opened
                .wait_while(open, |open| !*open)
                .expect("no panic"),
        );
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.taken.fetch_add(1, Ordering::SeqCst);
        Stack {
            taken: "while it ran",
            frames: vec!["pin".to_owned()],
        }
    }

    fn open(&self) {
        *self.open.lock().expect("no panic") = true;
        self.opened.notify_all();
    }
}

/// Opens the gate at the end of the test, however it ends: the runtime waits for the threads at the gate.
struct OpenedAtLast(Arc<Gate>);

impl Drop for OpenedAtLast {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A server with two pins in flight, of the threads 7 and 8.
async fn server(gate: &Arc<Gate>) -> Server {
    let gate = Arc::clone(gate);
    let pin = |tid| Pin {
        tid,
        ..Pin::zeroed()
    };
    let source: Source = Arc::new(move || {
        Some(State {
            in_flight: vec![pin(7), pin(8)],
            ..State::empty("6.12", "folios")
        })
    });
    let web = Web {
        registry: Registry::new(),
        scraped: Arc::clone(&source),
        source,
        stacks: Arc::new(move |_| Some(Ok(gate.take()))),
    };
    Server::of(router(web).expect("new")).await
}

#[tokio::test]
async fn abandoned_requests_take_one_stack() {
    let gate = Arc::<Gate>::default();
    let _opened = OpenedAtLast(Arc::clone(&gate));
    let server = server(&gate).await;
    let path = "/in-flight/7/stack";
    for _ in 0..600 {
        let mut stream = TcpStream::connect(server.address)
            .await
            .expect("it listens");
        let asked = request(path, "");
        stream.write_all(asked.as_bytes()).await.expect("it reads");
    }
    while gate.running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    for path in [path, "/in-flight/8/stack"] {
        let busy = get(server.address, path, "").await;
        assert_eq!(busy.status, 503, "{path}: {}", busy.body);
        assert!(busy.head.contains("retry-after: 1"), "{}", busy.head);
    }
    assert_eq!(get(server.address, "/in-flight", "").await.status, 200);
    assert_eq!(gate.most.load(Ordering::SeqCst), 1);
    gate.open();
    while gate.taken.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // The answer of the abandoned request is fresh.
    let answer = get(server.address, path, "").await;
    assert!(
        answer.status == 200 && answer.body.contains("pin"),
        "{answer:?}"
    );
    assert_eq!(gate.taken.load(Ordering::SeqCst), 1);
    assert_eq!(
        get(server.address, "/in-flight/8/stack", "").await.status,
        200
    );
    assert_eq!(gate.taken.load(Ordering::SeqCst), 2);
    assert_eq!(
        get(server.address, "/in-flight/9/stack", "").await.status,
        404
    );
}
