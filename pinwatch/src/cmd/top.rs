//! `pinwatch top`: connects the terminal and its keys to a feed of pins.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use anyhow::{Result, bail};
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;

use super::runtime::{StopSignals, one_thread, stop_signals};
use super::watch;
use crate::cli;
use crate::model::format::Clock;
use crate::output::top::{After, Top, draw};
use crate::stream::feed::{Feed, Update};

/// Runs the command until the user quits or the feed ends.
pub fn run(args: &cli::Top) -> Result<ExitCode> {
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        bail!("top needs a terminal as stdin and stdout: use `pinwatch tail` in a pipe or script");
    }
    if crossterm::terminal::size().is_ok_and(|(columns, lines)| columns == 0 || lines == 0) {
        bail!("the terminal reports no size: set one, such as `stty cols 80 rows 24`");
    }
    super::log::to_stderr("warn");
    one_thread()?.block_on(async {
        let mut stop = stop_signals()?;
        let feed = tokio::select! {
            feed = watch::open(&args.follow, Some(1.0)) => feed?,
            _ = stop.recv() => return Ok(()),
        };
        // `try_init` installs a panic hook that restores the terminal.
        let mut terminal = ratatui::try_init()?;
        let shown = show(&mut terminal, feed, watch::clock(&args.follow), stop).await;
        ratatui::try_restore()?;
        shown
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn show(
    terminal: &mut DefaultTerminal,
    mut feed: Feed,
    clock: Clock,
    mut stop: StopSignals,
) -> Result<()> {
    let mut top = Top::new(clock);
    let mut keys = EventStream::new();
    terminal.draw(|frame| draw(&top, frame))?;
    loop {
        tokio::select! {
            update = feed.next() => {
                let Some(update) = update.transpose()? else { return Ok(()) };
                // Pins are drawn together with the next state, twice a second.
                let waits = matches!(update, Update::Pins(_));
                top.update(update);
                if waits {
                    continue;
                }
            }
            event = keys.next() => match event.transpose()? {
                Some(Event::Key(key)) => if top.key(key) == After::Quit { return Ok(()) },
                Some(_) => {}
                None => return Ok(()),
            },
            _ = stop.recv() => return Ok(()),
        }
        terminal.draw(|frame| draw(&top, frame))?;
    }
}
