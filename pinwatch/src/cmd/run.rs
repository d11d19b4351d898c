//! `pinwatch run`: the daemon.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use prometheus::Registry;
use prometheus::process_collector::ProcessCollector;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::{BpfLog, Run};
use crate::kernel::facts::Facts;
use crate::output::http::{Source, StackSource, Web, router};
use crate::output::metrics::Exporter;
use crate::probe::plan::{Plan, Verdict};
use crate::source::live::{Live, Options};

pub fn run(args: &Run) -> Result<ExitCode> {
    let filter = EnvFilter::try_from_env("PINWATCH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    one_heap();
    // One thread: the kernel counts, a scrape only reads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &Run) -> Result<()> {
    // Before anything that takes time: the signals, and the port.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;

    let live: Arc<OnceLock<Live>> = Arc::default();
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let shared = Arc::clone(&live);
    let source: Source = Arc::new(move || Some(shared.get()?.state()));
    let exported = Arc::clone(&source);
    registry.register(Box::new(Exporter(move || exported())))?;
    let shared = Arc::clone(&live);
    let stacks: StackSource = Arc::new(move |tid| Some(shared.get()?.stacks().of(tid)));
    let web = Web {
        registry,
        source,
        stacks,
    };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let server = async { axum::serve(listener, router(web)).await };
    let watch = async {
        let (wish, options) = (args.wish.clone(), options(args));
        let mut attached = tokio::task::spawn_blocking(move || {
            let facts = Facts::gather();
            let plan = Plan::new(&facts, wish);
            report(&facts, &plan);
            Live::attach(&facts, &plan, options)
        })
        .await??;
        let logger = (args.bpf_log != BpfLog::Off)
            .then(|| attached.take_logger(log::logger()))
            .transpose()?;
        for hook in attached
            .attached()
            .iter()
            .filter(|hook| hook.error.is_some())
        {
            let reason = hook.error.as_deref().unwrap_or_default();
            tracing::warn!(
                "{}: cannot attach to {}: {reason}",
                hook.measurement.name(),
                hook.attachment.target
            );
        }
        let hooks = attached
            .attached()
            .iter()
            .filter(|hook| hook.error.is_none())
            .count();
        let _ = live.set(attached);
        give_memory_back();
        tracing::info!(
            "watching with {hooks} hooks, metrics on http://{}/metrics",
            args.listen
        );
        match logger {
            Some(logger) => follow(logger).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        signal = stop => tracing::info!("{signal}: detaching"),
        served = server => served?,
        failed = watch => return failed,
    }
    Ok(())
}

/// Attaching has a thread of its own, for which glibc would make a heap of its
/// own, and keep most of it.
fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: changes a setting of the allocator, before there are other threads.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Reading BTF takes some 30 MB that are not needed again; glibc would keep them.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers, and locks the heap itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn options(args: &Run) -> Options {
    let bpf_log_level = match args.bpf_log {
        BpfLog::Off => 0,
        BpfLog::Warn => 2,
        BpfLog::Debug => 4,
    };
    Options {
        stuck_after: args.stuck_after,
        bpf_log_level,
    }
}

/// One line for what is watched, and one for each loss.
fn report(facts: &Facts, plan: &Plan) {
    tracing::info!("kernel {}, era {}", facts.release, plan.era);
    if !plan.unusable.is_empty() {
        return;
    }
    for decision in &plan.decisions {
        if let Verdict::Lost { reason } = &decision.verdict {
            tracing::warn!(
                "{}: {reason}; {}",
                decision.measurement.name(),
                decision.measurement.loss()
            );
        }
    }
}

/// Passes the BPF programs' diagnostics on.
async fn follow(logger: aya_log::EbpfLogger<&'static dyn log::Log>) -> Result<()> {
    // SAFETY: the ring buffer owns its descriptor and keeps it for its life.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = logger?;
    loop {
        let mut ready = logger.readable_mut().await?;
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}
