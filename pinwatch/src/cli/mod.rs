//! Command line: clap types, and the environment variables and the file that configure `pinwatch run`.

mod command;
pub mod config;
mod recording;
mod run;
mod watch;

pub use command::{Cli, Command};
pub use recording::{As, Compare, Format, Record, Replay, Report};
pub use run::{BpfLog, Run};
pub use watch::{Check, Follow, Manual, Tail, Top};
