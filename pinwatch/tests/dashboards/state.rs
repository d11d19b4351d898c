//! Two hosts without a kernel, on which everything happens that a metric can show.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytemuck::Zeroable as _;
use pinwatch::aggregate::{Hook, ProgramStats, State};
use pinwatch::output::http::{Source, Web, router};
use pinwatch::output::metrics::Exporter;
use pinwatch::probe::table::Measurement;
use pinwatch_common::fold::CpuCells;
use prometheus::Registry;
use prometheus::process_collector::ProcessCollector;

use super::some;

/// The kernels of the two hosts.
pub const RELEASES: [&str; 2] = ["6.12.0-test", "7.3.0-test"];

const ZONES: [&str; 5] = ["dma", "dma32", "normal", "movable", "device"];

/// Every counter stands at `n`.
pub fn state(release: &str, n: u64) -> State {
    let mut cells = Box::new(CpuCells::zeroed());
    bytemuck::cast_slice_mut::<_, u64>(std::slice::from_mut(&mut *cells)).fill(n);
    let base = some::state();
    let hook = |measurement, attached| Hook {
        measurement,
        attached,
        ..base.hooks[0].clone()
    };
    State {
        release: release.to_owned(),
        cells,
        zones: std::array::from_fn(|zone| ZONES.get(zone).copied()),
        hooks: vec![
            hook(Measurement::PinEntry, true),
            hook(Measurement::FastPath, true),
            hook(Measurement::Drains, false),
        ],
        programs: vec![ProgramStats {
            program: "pin_enter_fentry".into(),
            runs: Some((n, 700 * n)),
            skipped: Some(n),
            missed: Some(n),
        }],
        events_sent: n,
        ..base
    }
}

/// Serves a host on a port of its own; its counters grow from look to look.
pub fn serve(release: &'static str) -> SocketAddr {
    let looks = AtomicU64::new(0);
    let source: Source =
        Arc::new(move || Some(state(release, looks.fetch_add(1, Ordering::Relaxed))));
    let registry = Registry::new();
    let exported = Arc::clone(&source);
    for collector in [
        Box::new(Exporter(move || exported())) as Box<dyn prometheus::core::Collector>,
        Box::new(ProcessCollector::for_self()),
    ] {
        registry.register(collector).expect("new");
    }
    let web = Web {
        registry,
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
