//! `pinwatch run`: the daemon.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, bail};
use prometheus::Registry;
use prometheus::process_collector::ProcessCollector;
use tokio::net::TcpListener;

use super::runtime::{end_signals, hangups, one_thread};
use super::watch::{attach, measure_holds};
use crate::cli::{BpfLog, Run};
use crate::host::privileges::{self, Capabilities};
use crate::host::systemd;
use crate::model::series::Per;
use crate::model::state::State;
use crate::output::http::{Source, StackSource, Web, router};
use crate::probe::table::Measurement;
use crate::series::collect::{Board, keep};
use crate::source::diagnostics::pass_on;
use crate::source::live::{Live, Options};
use crate::stream::hub::Hub;
use crate::stream::ring_reader::read_ring;
use crate::stream::serve::{DEFAULT_SOCKET, Socket};
use crate::web::host::Hosts;
use crate::web::limits::Limits;
use crate::web::listen::Listen;
use crate::web::reload::Current;
use crate::web::serve::{bind, exposed, serve as serve_http};

/// Runs the daemon until SIGTERM or SIGINT ends it, or checks its configuration (`--check-config`).
pub fn run(args: &Run) -> Result<ExitCode> {
    if args.check_config {
        let current = Current::open(args.web_config.as_deref())?;
        if let Some(warning) = exposed(&addresses(args)?, &current.get()) {
            println!("warning: {warning}");
        }
        println!("the configuration is valid");
        return Ok(ExitCode::SUCCESS);
    }
    super::log::to_stderr("info");
    // Huge pages would only enlarge the resident size of a heap this small.
    let _ = nix::sys::prctl::set_thp_disable(true);
    one_thread()?.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &Run) -> Result<()> {
    if args.user.is_some() && args.capabilities == Capabilities::Keep {
        bail!("--user does not go with --capabilities keep: leave one of them out");
    }
    // Signals, port and socket come first: attaching takes time, and their errors should not wait for it.
    let mut stop = end_signals()?;
    let mut hangups = hangups()?;
    let current = Arc::new(Current::open(args.web_config.as_deref())?);
    let (listeners, urls) = listen(args, &current).await?;
    let socket = socket(args)?;

    privileges::gain_none()?;
    let attaching = attach(args.selection.clone(), options(args));
    // Credentials belong to a thread, and a new thread inherits them: dropped before there are more threads.
    drop_privileges(args, &current)?;

    let live: Arc<OnceLock<Live>> = Arc::default();
    let board = (args.per != Per::None).then(|| Arc::new(Board::new(args.per, args.max_series)));
    let router = router(web(&live, board.clone(), &current)?)?;
    let hosts = Hosts::new(&args.allowed_hosts);
    let server = serve_http(
        listeners,
        router,
        Arc::clone(&current),
        Limits::DEFAULT,
        hosts,
    );
    let watch = async {
        let attached = attaching.await?;
        watch(
            args,
            attached,
            &live,
            board.as_deref(),
            socket.as_ref(),
            &urls,
        )
        .await
    };
    tokio::pin!(server, watch);
    loop {
        tokio::select! {
            signal = stop.recv() => {
                systemd::stopping();
                tracing::info!("received {signal}, detaching from the kernel");
                return Ok(());
            }
            () = hangups.recv() => {
                tracing::info!("received SIGHUP, reading --web.config.file again; SIGTERM ends the daemon");
                current.reload();
            }
            served = &mut server => match served? {},
            failed = &mut watch => return failed,
        }
    }
}

/// Listens on systemd's sockets, or on the addresses of `--web.listen-address`. Returns the URLs of the metrics,
/// too.
async fn listen(args: &Run, current: &Current) -> Result<(Vec<TcpListener>, String)> {
    let mut listeners = systemd::listeners()?;
    if listeners.is_empty() {
        listeners = bind(&addresses(args)?).await?;
    }
    let addresses = listeners.iter().map(TcpListener::local_addr);
    let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
    let settings = current.get();
    if let Some(warning) = exposed(&addresses, &settings) {
        tracing::warn!("{warning}");
    }
    let urls = urls(&addresses, settings.tls.is_some());
    Ok((listeners, urls))
}

/// Drops the user and the capabilities of this thread, if `args` say so.
fn drop_privileges(args: &Run, current: &Current) -> Result<()> {
    if args.capabilities == Capabilities::Keep {
        return Ok(());
    }
    if privileges::become_user(args.user)? {
        warn_of_unreadable(current);
    }
    privileges::drop_capabilities()
}

/// Sources of the HTTP paths. They answer once the hooks are attached.
fn web(live: &Arc<OnceLock<Live>>, board: Option<Arc<Board>>, current: &Current) -> Result<Web> {
    let shared = Arc::clone(live);
    let source: Source = Arc::new(move || Some(shared.get()?.state()));
    let shared = Arc::clone(live);
    let stacks: StackSource = Arc::new(move |tid| Some(shared.get()?.stacks().of(tid)));
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    registry.register(Box::new(current.succeeded()))?;
    let current_state = Arc::clone(&source);
    let scraped = move || {
        let series = board.as_ref().map(|board| board.snapshot());
        Some(State {
            series,
            ..current_state()?
        })
    };
    Ok(Web {
        registry,
        source,
        scraped: Arc::new(scraped),
        stacks,
    })
}

/// Serves followers, series and diagnostics from attached hooks. Returns only after an error.
async fn watch(
    args: &Run,
    mut attached: Live,
    live: &Arc<OnceLock<Live>>,
    board: Option<&Board>,
    socket: Option<&Socket>,
    urls: &str,
) -> Result<()> {
    let events = attached.take_events()?;
    let logger = (args.bpf_log != BpfLog::Off)
        .then(|| attached.take_logger(log::logger()))
        .transpose()?;
    let holds = measure_holds(attached.take_hold_timer());
    let hooks = attached.attached().iter();
    let hooks = hooks.filter(|hook| hook.error.is_none()).count();
    warn_of_lower_bounds(&attached);
    let _ = live.set(attached);
    let shared = Arc::clone(live);
    let state = move || shared.get().expect("set above").state();
    tracing::info!("watching with {hooks} hooks, metrics on {urls}");
    systemd::ready();
    let (hub, syncs) = Hub::new();
    let ring = read_ring(events, Arc::clone(&hub), syncs);
    let series = async {
        match board {
            Some(board) => Ok(keep(board, Arc::clone(&hub), state.clone()).await?),
            None => pending::<Result<Infallible>>().await,
        }
    };
    let followers = async {
        match socket {
            Some(socket) => socket.serve(Arc::clone(&hub), state.clone()).await,
            None => pending().await,
        };
        Ok(())
    };
    let diagnostics = async {
        match logger {
            Some(logger) => Ok(pass_on(logger).await?),
            None => pending().await,
        }
    };
    tokio::try_join!(
        ring,
        series,
        followers,
        diagnostics,
        holds,
        systemd::watchdog()
    )?;
    Ok(())
}

/// The addresses of `--web.listen-address`.
fn addresses(args: &Run) -> Result<Vec<SocketAddr>> {
    args.listen.iter().map(Listen::resolve).collect()
}

/// Warns of files that only root could read, since they cannot be read again.
fn warn_of_unreadable(current: &Current) {
    for (file, error) in current.unreadable() {
        tracing::warn!(
            "{}: {error}: a change of it will not take effect; give the file to the group of --user, or set --user root",
            file.display()
        );
    }
}

fn warn_of_lower_bounds(live: &Live) {
    let state = live.state();
    let names: Vec<_> = state.lower_bounds().map(Measurement::name).collect();
    if !names.is_empty() {
        tracing::warn!(
            "the counts of {} are a lower bound: this kernel can skip kprobe programs beside another BPF agent; docs/reliability.md has the details",
            names.join(", ")
        );
    }
}

fn urls(addresses: &[SocketAddr], tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let urls = addresses.iter();
    let urls: Vec<_> = urls.map(|at| format!("{scheme}://{at}/metrics")).collect();
    urls.join(" and ")
}

/// Binds the Unix socket for followers. If only the default path fails (the daemon may not be root), the
/// daemon runs without a socket.
///
/// # Errors
///
/// If the path of `--socket` cannot be bound.
fn socket(args: &Run) -> Result<Option<Socket>> {
    if let Some(path) = &args.socket {
        return Socket::bind(path).map(Some);
    }
    Ok(Socket::bind(DEFAULT_SOCKET.as_ref())
        .inspect_err(|error| {
            tracing::warn!(
                "no follower can connect to this daemon: {error:#}; --socket sets another path"
            )
        })
        .ok())
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
