//! kprobes defined through tracefs. A kretprobe attached through the perf PMU
//! gets the default `maxactive`, so that with more threads inside the function
//! than that, returns are lost without a trace; here it can be given, and
//! `kprobe_profile` counts what is missed all the same.
//!
//! A definition belongs to no process: it outlives one that is killed, disabled
//! and with nothing attached. Those of dead processes are removed at the next
//! start.
//!
//! tracefs is root's. Its files are opened once, so that a daemon that has given
//! its capabilities up still reads what was missed, and removes its definitions.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use thiserror::Error;

/// Returns that may be outstanding at once. Each costs some 100 bytes.
const MAXACTIVE: u32 = 512;

/// All definitions of a process are in a group of its own.
const GROUP: &str = "pinwatch_";

/// Why a definition could not be made.
#[derive(Debug, Error)]
#[error("{path}: {source}")]
pub struct TracefsError {
    path: String,
    source: io::Error,
}

/// The files of a tracefs that kprobes need.
#[derive(Debug)]
pub struct Tracefs {
    dir: PathBuf,
    definitions: TraceFile,
    profile: TraceFile,
}

/// One of them. Its readers share an offset, so each waits for the other.
#[derive(Debug)]
struct TraceFile {
    path: PathBuf,
    file: Mutex<File>,
}

/// A kprobe event; removed when dropped, which must be after everything
/// attached to it is closed.
#[derive(Debug)]
pub struct Event {
    tracefs: Arc<Tracefs>,
    name: String,
    /// The id for `perf_event_open`.
    pub id: u64,
}

impl Event {
    /// Defines an event at the entry or the return of a function.
    pub fn define(
        tracefs: &Arc<Tracefs>,
        name: &str,
        function: &str,
        at_return: bool,
    ) -> Result<Self, TracefsError> {
        let group = format!("{GROUP}{}", std::process::id());
        let kind = if at_return {
            format!("r{MAXACTIVE}")
        } else {
            "p".to_owned()
        };
        let line = format!("{kind}:{group}/{name} {function}");
        tracefs.definitions.append(&line)?;
        // From here on the definition is to be removed whatever happens.
        let mut event = Self {
            tracefs: Arc::clone(tracefs),
            name: name.to_owned(),
            id: 0,
        };
        let path = tracefs.dir.join("events").join(group).join(name).join("id");
        let text = fs::read_to_string(&path);
        let id = text.and_then(|text| text.trim().parse().map_err(io::Error::other));
        event.id = id.map_err(|source| at(&path, source))?;
        Ok(event)
    }

    /// How often the probe was hit and could not run: `kprobe_profile`.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        missed_in(&self.tracefs.profile.read().ok()?, &self.name)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let line = format!("-:{GROUP}{}/{}", std::process::id(), self.name);
        if let Err(error) = self.tracefs.definitions.append(&line) {
            tracing::warn!("could not remove the kprobe event {}: {error}", self.name);
        }
    }
}

impl Tracefs {
    /// Opens what is mounted there.
    pub fn open(dir: &Path) -> Result<Self, TracefsError> {
        Ok(Self {
            dir: dir.to_owned(),
            // Appending: opening it in another way to write removes what is there.
            definitions: TraceFile::open(dir, "kprobe_events", |options| options.append(true))?,
            profile: TraceFile::open(dir, "kprobe_profile", |options| options)?,
        })
    }

    /// Removes what processes that are no more have left behind.
    pub fn remove_leftovers(&self) {
        let Ok(text) = self.definitions.read() else {
            return;
        };
        for event in leftovers(&text, |pid| Path::new("/proc").join(pid).exists()) {
            match self.definitions.append(&format!("-:{event}")) {
                Ok(()) => {
                    tracing::info!("removed {event}, left behind by a pinwatch that was killed")
                }
                Err(error) => {
                    tracing::warn!("{event}, left behind by a killed pinwatch, stays: {error}")
                }
            }
        }
    }
}

impl TraceFile {
    fn open(
        dir: &Path,
        name: &str,
        how: fn(&mut OpenOptions) -> &mut OpenOptions,
    ) -> Result<Self, TracefsError> {
        let path = dir.join(name);
        let file = how(OpenOptions::new().read(true)).open(&path);
        let file = file.map_err(|source| at(&path, source))?.into();
        Ok(Self { path, file })
    }

    fn read(&self) -> io::Result<String> {
        let mut text = String::new();
        let mut file = self.file.lock().expect("no holder panics");
        file.rewind()?;
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    fn append(&self, line: &str) -> Result<(), TracefsError> {
        let mut file = self.file.lock().expect("no holder panics");
        let written = file.write_all(line.as_bytes());
        written.map_err(|source| at(&self.path, source))
    }
}

fn at(path: &Path, source: io::Error) -> TracefsError {
    TracefsError {
        path: path.display().to_string(),
        source,
    }
}

/// "group/name" of events whose process is gone.
fn leftovers(kprobe_events: &str, alive: impl Fn(&str) -> bool) -> Vec<String> {
    let events = kprobe_events.lines().filter_map(|line| {
        let event = line.split_once(':')?.1.split(' ').next()?;
        let pid = event.strip_prefix(GROUP)?.split_once('/')?.0;
        (pid.bytes().all(|b| b.is_ascii_digit()) && !alive(pid)).then(|| event.to_owned())
    });
    events.collect()
}

fn missed_in(kprobe_profile: &str, name: &str) -> Option<u64> {
    kprobe_profile.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == name).then(|| words.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_those_of_dead_processes_of_ours() {
        let text = "p:pinwatch_12/pin_enter_kprobe __gup_longterm_locked\n\
                    r512:pinwatch_99/pin_exit_kretprobe __gup_longterm_locked\n\
                    p:other_99/x y\n\
                    p:pinwatch_9x/x y";
        assert_eq!(
            leftovers(text, |pid| pid == "12"),
            ["pinwatch_99/pin_exit_kretprobe"]
        );
    }

    #[test]
    fn misses_are_the_third_column() {
        let text = "  pin_enter_kprobe        120               0\n  pin_exit_kretprobe      118               2\n";
        assert_eq!(missed_in(text, "pin_exit_kretprobe"), Some(2));
        assert_eq!(missed_in(text, "absent"), None);
    }
}
