//! Serves a simulated state on a local port.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use pinwatch::model::state::State;
use pinwatch::output::http::{Source, Web, router};
use prometheus::Registry;
use prometheus::process_collector::ProcessCollector;

/// Serves the result of `state` at each request, until the test process ends.
pub fn serve(state: impl Fn() -> State + Send + Sync + 'static) -> SocketAddr {
    let source: Source = Arc::new(move || Some(state()));
    let registry = Registry::new();
    let process = ProcessCollector::for_self();
    registry.register(Box::new(process)).expect("new");
    let web = Web {
        registry,
        scraped: Arc::clone(&source),
        source,
        stacks: Arc::new(|_| None),
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            axum::serve(listener, router(web).expect("new"))
                .await
                .expect("serves");
        });
    });
    address
}
