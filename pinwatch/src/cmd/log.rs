//! The log on stderr: with time and colour on a terminal, with a syslog priority for the journal.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::host::systemd;

/// Starts logging to stderr at a level. `PINWATCH_LOG` overrides the level.
pub fn to_stderr(level: &str) {
    let filter = EnvFilter::try_from_env("PINWATCH_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // The report of a failed write would go to stderr too, and panic.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    if systemd::logs_to_journal() {
        log.with_ansi(false).event_format(Journal::default()).init();
    } else {
        log.with_ansi(coloured(&io::stderr()))
            .with_target(false)
            .init();
    }
}

/// Whether output has colours: on a terminal, unless `NO_COLOR` or `TERM=dumb` is set.
fn coloured(out: &impl RawStream) -> bool {
    AutoStream::choice(out) != ColorChoice::Never
}

/// Formats a line for the journal: `<priority>text` (sd-daemon(3)).
struct Journal(Format<Full, ()>);

impl Default for Journal {
    fn default() -> Self {
        let line = tracing_subscriber::fmt::format();
        Self(line.without_time().with_level(false).with_target(false))
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(line, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, line, event)
    }
}

/// Priority by syslog(3): 3 for errors to 7 for debug messages.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
