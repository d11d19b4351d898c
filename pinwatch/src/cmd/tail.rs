//! `pinwatch tail`: writes a line to stdout for each pin that ends.

#![forbid(unsafe_code)]

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anstream::AutoStream;
use anyhow::Result;
use jiff::tz::TimeZone;

use super::runtime::{one_thread, passed, stop_signals};
use super::stdout::{Stdout, reader_gone};
use super::watch;
use crate::cli;
use crate::output::tail::{Format, Size, Tail};
use crate::stream::feed::Update;

pub fn run(args: &cli::Tail) -> Result<ExitCode> {
    super::log::to_stderr("warn");
    one_thread()?.block_on(tail(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn tail(args: &cli::Tail) -> Result<()> {
    let mut stop = stop_signals()?;
    let mut feed = tokio::select! {
        feed = watch::open(&args.follow, None) => feed?,
        _ = stop.recv() => return Ok(()),
    };
    let limit = passed(args.duration);
    let gone = reader_gone();
    tokio::pin!(limit, gone);
    let format = Format {
        json: args.json,
        in_flight_after: args.in_flight_after,
        zone: TimeZone::system(),
        clock: watch::clock(&args.follow),
    };
    let mut tail = Tail::new(format, args.follow.filter.clone());
    let mut out = BufWriter::new(Stdout::through(AutoStream::auto(io::stdout().lock())));
    let mut finishing = false;
    loop {
        tokio::select! {
            update = feed.next() => {
                let Some(update) = update.transpose()? else { break };
                tail.update(&update, size(), &mut out)?;
                out.flush()?;
                if matches!(update, Update::End { .. }) {
                    break;
                }
            }
            () = &mut gone => return Ok(()),
            () = &mut limit, if !finishing => {
                finishing = true;
                feed.finish();
            }
            _ = stop.recv() => {
                // A second signal ends at once and gives up the remaining pins.
                if finishing {
                    break;
                }
                finishing = true;
                feed.finish();
            }
        }
    }
    if args.json {
        tail.end(&mut out)?;
        out.flush()?;
    } else {
        // On stderr, so that a pipe gets only the lines of pins.
        tail.end(&mut io::stderr())?;
    }
    Ok(())
}

/// Size of the terminal; `None` if stdout is not a terminal, or one without a size: serial consoles and
/// `docker exec -t` can have 0 columns.
fn size() -> Size {
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = crossterm::terminal::size().ok();
    size.filter(|(columns, _)| *columns > 0)
}
