//! The commands. Each connects the parts of the program and has no logic of its own.

mod check;
mod compare;
mod dispatch;
mod log;
mod manual;
mod progress;
mod record;
mod replay;
mod report;
mod run;
mod runtime;
mod status;
mod stdout;
mod tail;
mod top;
mod watch;

pub use dispatch::dispatch;
pub use status::{UNUSABLE, is_reader_gone, print_error, status_of};
