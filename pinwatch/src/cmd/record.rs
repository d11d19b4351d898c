//! `pinwatch record`: writes pins to a file.

#![forbid(unsafe_code)]

use std::fs::File;
use std::future::pending;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::runtime::{one_thread, passed, stop_signals};
use super::watch;
use crate::cli;
use crate::host::calibration;
use crate::host::machine::{FollPins, Machine};
use crate::model::filter::Filter;
use crate::model::format::harmless;
use crate::model::session::{Lost, Start};
use crate::model::trace::Assembler;
use crate::recording::{End, Header, OutputFile, Writer};
use crate::stream::feed::Update;

/// Runs the command. The exit status is that of the recorded command, if there is one, and 1 if the
/// recording failed.
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
    // Beyond RLIMIT_FSIZE, write(2) sends SIGXFSZ, which ends a process that does not catch it.
    let _too_large = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    let follow = cli::Follow {
        filter: Filter {
            passes: true,
            ..args.follow.filter.clone()
        },
        ..args.follow.clone()
    };
    // Opened first, so that a wrong path fails before the slow attaching.
    let output = OutputFile::open(&args.output);
    let output = output.with_context(|| format!("cannot write {}", args.output.display()))?;
    let mut recorder = Recorder {
        args,
        output: Some(output),
        writer: None,
        assembler: Assembler::default(),
        lost: Lost::default(),
        // Measured before attaching: pins would have to wait meanwhile.
        yardstick_ns: calibration::measure(),
        child: None,
    };
    let mut feed = tokio::select! {
        feed = watch::open(&follow, None) => feed?,
        _ = stop.recv() => return Ok(ExitCode::SUCCESS),
    };
    let limit = passed(args.duration);
    tokio::pin!(limit);
    let mut status = None;
    let mut finishing = false;
    let end = loop {
        tokio::select! {
            update = feed.next() => match recorder.take(update) {
                Ok(None) => {}
                end => break end,
            },
            ended = ended(&mut recorder.child), if status.is_none() => {
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
                    break Ok(None);
                }
                finishing = true;
                feed.finish();
            }
        }
    };
    drop(feed);
    clear();
    if let Err(error) = &end
        && let Some(program) = args.command.first()
        && recorder.child.is_some()
        && status.is_none()
    {
        // An error of the recording is no reason to kill the command.
        say(&format!(
            "pinwatch: the recording has ended early, and {program} goes on: {error:#}"
        ));
        tokio::select! {
            ended = ended(&mut recorder.child) => status = Some(ended?),
            () = &mut limit, if !finishing => {}
            _ = stop.recv() => {}
        }
    }
    let stopped = recorder.child.is_some() && status.is_none();
    let mut summary = recorder.finish(end?)?;
    if stopped {
        summary += "; the command had not ended, and was stopped";
    }
    say(&summary);
    Ok(status.map_or(ExitCode::SUCCESS, exit_code))
}

/// The recording, and the command whose pins it has.
struct Recorder<'a> {
    args: &'a cli::Record,
    /// The file; `None` once the recording has begun.
    output: Option<OutputFile>,
    /// `None` until the recording begins.
    writer: Option<Writer<File>>,
    assembler: Assembler,
    lost: Lost,
    /// Nanoseconds of the fixed work before the recording.
    yardstick_ns: u64,
    child: Option<Child>,
}

impl Recorder<'_> {
    /// Records an update. Returns the end of the recording with the last one.
    fn take(&mut self, update: Option<Result<Update>>) -> Result<Option<End>> {
        let update = update.context("the source of pins ended early: report this as a bug")??;
        match update {
            Update::Start(start) => self.start(start)?,
            Update::Pins(pins) => {
                let assembler = &mut self.assembler;
                let pins = pins.into_iter().filter_map(|event| assembler.take(event));
                let pins: Vec<_> = pins.collect();
                self.write(|writer| writer.pins(&pins))?;
            }
            Update::Holds(holds) => self.write(|writer| writer.holds(&holds))?,
            // A recording has one offset, that of its start, and pins only.
            Update::WallOffset(_) | Update::Refusals(_) => {}
            Update::Tick { lost, .. } => {
                self.lost = lost;
                self.write(|writer| writer.lost(lost))?;
                if let Some(writer) = &self.writer {
                    progress(writer.written(), lost);
                }
            }
            Update::End { lost, status } => {
                self.lost = lost;
                return Ok(Some(End {
                    lost,
                    status: *status,
                    foll_pins: FollPins::read(),
                    yardstick_ns: Some(calibration::measure()),
                }));
            }
        }
        Ok(None)
    }

    /// Starts the command, and replaces the content of the file by a header.
    fn start(&mut self, start: Start) -> Result<()> {
        let args = self.args;
        let output = self.output.take();
        let output = output.context("the source of pins sent two starts: report this as a bug")?;
        let command = (!args.command.is_empty()).then(|| args.command.clone());
        let mut header = Header::new(start, command, Machine::gather());
        header.filter = args.follow.filter.words();
        header.yardstick_ns = Some(self.yardstick_ns);
        // Fails if no reader would take the header: the command is too long.
        Writer::new(io::sink(), &header, args.compress).with_context(|| self.cannot_write())?;
        // Started only now, so that all its pins are recorded; and before the file is emptied, since a
        // command that cannot run is no reason to lose a recording.
        self.child = spawn(&args.command)?;
        let begun = output
            .begin()
            .and_then(|file| Writer::new(file, &header, args.compress));
        self.writer = Some(begun.with_context(|| self.cannot_write())?);
        Ok(())
    }

    fn write(&mut self, write: impl FnOnce(&mut Writer<File>) -> io::Result<()>) -> Result<()> {
        match &mut self.writer {
            Some(writer) => write(writer).with_context(|| self.cannot_write()),
            None => Ok(()),
        }
    }

    /// Writes the last frame, and returns a summary. Without an end, the file stays without a last frame,
    /// so that its readers see that pins are missing.
    fn finish(self, end: Option<End>) -> Result<String> {
        let (name, lost) = (self.args.output.display(), self.lost.total());
        let cannot_write = self.cannot_write();
        let Some(writer) = self.writer else {
            return Ok("nothing was recorded".to_owned());
        };
        let pins = writer.written();
        let Some(end) = end else {
            return Ok(format!(
                "{pins} pins in {name}, {lost} lost; the last pins are missing, because a second signal ended the recording"
            ));
        };
        writer.end(&end).context(cannot_write)?;
        Ok(format!("{pins} pins in {name}, {lost} lost"))
    }

    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.args.output.display())
    }
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

/// Writes a line to stderr. If stderr is closed, nobody reads it.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", harmless(line));
}

/// Writes the progress line on stderr over the previous one, if stderr is a terminal.
fn progress(pins: u64, lost: Lost) {
    let mut err = io::stderr();
    if err.is_terminal() {
        let lost = lost.total();
        let _ = write!(err, "\r{pins} pins, {lost} lost; Ctrl-C ends it ");
        let _ = err.flush();
    }
}

/// Erases the progress line.
fn clear() {
    let mut err = io::stderr();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K");
    }
}
