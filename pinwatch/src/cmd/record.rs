//! `pinwatch record`: writes pins to a file.

#![forbid(unsafe_code)]

use std::fs::File;
use std::future::pending;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

use super::runtime::{one_thread, passed, stop_signals};
use super::watch;
use crate::cli;
use crate::host::calibration;
use crate::host::machine::{FollPins, Machine};
use crate::model::filter::Filter;
use crate::model::session::Lost;
use crate::model::trace::Assembler;
use crate::recording::{End, Header, Writer};
use crate::stream::feed::Update;

/// Runs the command. The exit status is that of the recorded command, if there is one.
pub fn run(args: &cli::Record) -> Result<ExitCode> {
    super::log::to_stderr("warn");
    one_thread()?.block_on(record(args))
}

async fn record(args: &cli::Record) -> Result<ExitCode> {
    if args.follow.replay.is_some() {
        bail!(
            "--replay does not go with record: leave it out, or use --connect to record from a daemon"
        );
    }
    let mut stop = stop_signals()?;
    let follow = cli::Follow {
        filter: Filter {
            passes: true,
            ..args.follow.filter.clone()
        },
        ..args.follow.clone()
    };
    // Opened first, so that a wrong path fails before the slow attaching.
    let name = args.output.display();
    let file = File::create(&args.output).with_context(|| format!("cannot write {name}"))?;
    // Measured before attaching: pins would have to wait meanwhile.
    let yardstick_ns = Some(calibration::measure());
    let mut feed = tokio::select! {
        feed = watch::open(&follow, None) => feed?,
        _ = stop.recv() => return Ok(ExitCode::SUCCESS),
    };
    let limit = passed(args.duration);
    tokio::pin!(limit);
    let mut file = Some(file);
    let mut writer = None;
    let mut child = None;
    let mut status = None;
    let mut finishing = false;
    let mut end = End::default();
    let mut assembler = Assembler::default();
    loop {
        tokio::select! {
            update = feed.next() => match update.transpose()? {
                Some(Update::Start(start)) => {
                    let command = (!args.command.is_empty()).then(|| args.command.clone());
                    let mut header = Header::new(start, command, Machine::gather());
                    header.filter = args.follow.filter.words();
                    header.yardstick_ns = yardstick_ns;
                    let file = file.take().context("the source of pins sent two starts: report this as a bug")?;
                    let begun = Writer::new(file, &header, args.compress);
                    writer = Some(begun.with_context(|| format!("cannot write {name}"))?);
                    // Started only now, so that all its pins are recorded.
                    child = spawn(&args.command)?;
                }
                Some(Update::Pins(pins)) => if let Some(writer) = &mut writer {
                    let pins = pins.into_iter().filter_map(|event| assembler.take(event));
                    let pins: Vec<_> = pins.collect();
                    writer.pins(&pins).with_context(|| format!("cannot write {name}"))?;
                },
                Some(Update::Tick { lost, .. }) => if let Some(writer) = &mut writer {
                    end.lost = lost;
                    writer.lost(lost).with_context(|| format!("cannot write {name}"))?;
                    progress(writer.written(), lost)?;
                },
                Some(Update::End { lost, status }) => {
                    end = End {
                        lost,
                        status: *status,
                        foll_pins: FollPins::read(),
                        yardstick_ns: Some(calibration::measure()),
                    };
                    break;
                }
                None => break,
            },
            ended = ended(&mut child), if status.is_none() => {
                status = Some(ended?);
                finishing = true;
                feed.finish();
            }
            () = &mut limit, if !finishing => {
                finishing = true;
                feed.finish();
            }
            _ = stop.recv() => {
                // A second signal ends at once. Everything written stays in the file.
                if finishing {
                    break;
                }
                finishing = true;
                feed.finish();
            }
        }
    }
    let pins = match writer {
        Some(writer) => writer
            .end(&end)
            .with_context(|| format!("cannot write {name}"))?,
        None => 0,
    };
    clear()?;
    eprintln!("{pins} pins in {name}, {} lost", end.lost.total());
    Ok(status.map_or(ExitCode::SUCCESS, exit_code))
}

/// Starts the recorded command, if there is one.
fn spawn(command: &[String]) -> Result<Option<Child>> {
    let Some((program, args)) = command.split_first() else {
        return Ok(None);
    };
    let child = Command::new(program).args(args).kill_on_drop(true).spawn();
    child
        .with_context(|| format!("cannot run the command {program}"))
        .map(Some)
}

/// Waits for the command to end; forever if there is none.
async fn ended(child: &mut Option<Child>) -> Result<ExitStatus> {
    match child {
        Some(child) => Ok(child.wait().await?),
        None => pending().await,
    }
}

/// Exit status of the recorded command, as a shell reports it: 128 + N after signal N.
fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.unwrap_or(1) as u8)
}

/// Writes the progress line on stderr over the previous one, if stderr is a terminal.
fn progress(pins: u64, lost: Lost) -> io::Result<()> {
    let mut err = io::stderr();
    if err.is_terminal() {
        write!(err, "\r{pins} pins, {} lost; Ctrl-C ends it ", lost.total())?;
        err.flush()?;
    }
    Ok(())
}

fn clear() -> io::Result<()> {
    let mut err = io::stderr();
    if err.is_terminal() {
        write!(err, "\r\x1b[K")?;
    }
    Ok(())
}
