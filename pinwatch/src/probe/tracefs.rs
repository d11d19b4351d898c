//! kprobes defined through tracefs. A kretprobe attached through the perf PMU
//! gets the default `maxactive`, so that with more threads inside the function
//! than that, returns are lost without a trace; here it can be given, and
//! `kprobe_profile` counts what is missed all the same.
//!
//! A definition belongs to no process: it outlives a killed process, disabled
//! and with nothing attached. The next start removes every definition that
//! nothing uses. The kernel refuses (`EBUSY`) to remove one that perf has open.
//! Between its definition and perf's opening nothing protects an event but a
//! lock (flock(2)) on `kprobe_events`: define and open under [`Tracefs::lock`].
//!
//! Group and names carry a random id. A process id can recur: in a container
//! every pinwatch is process 1.
//!
//! tracefs is root's. Its files are opened once, so that a daemon that has given
//! its capabilities up still reads what was missed, and removes its definitions.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ring::rand::{SystemRandom, generate};
use thiserror::Error;

/// Returns that may be outstanding at once, per kretprobe: the kernel's maximum
/// (`KRETPROBE_MAXACTIVE_MAX`). A kretprobe then takes 250 KiB on 5.10 and 6.1. On
/// 6.12 and 7.3, which have rings per CPU, it takes 190 KiB and 35 KiB for each
/// possible CPU. (Measured by /proc/meminfo, with 1 and with 4 CPUs.)
const MAXACTIVE: u32 = 4096;

/// Each process has a group of its own, `pinwatch_<id>`.
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
    /// 16 random hexadecimal digits.
    id: String,
    definitions: TraceFile,
    profile: TraceFile,
}

/// One of them. Its readers share an offset, so each waits for the other.
#[derive(Debug)]
struct TraceFile {
    path: PathBuf,
    file: Mutex<File>,
    /// The same open file, for flock(2), which needs no offset.
    lock: File,
}

/// A kprobe event; removed when dropped, which must be after everything
/// attached to it is closed.
#[derive(Debug)]
pub struct Event {
    tracefs: Arc<Tracefs>,
    /// Unique: `kprobe_profile` shows no groups.
    name: String,
    /// The id for `perf_event_open`.
    pub id: u64,
}

/// What `kprobe_profile` says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How often the probe was hit.
    pub hits: u64,
    /// How often the function was called, or returned, and the probe could not
    /// be handled.
    pub misses: u64,
}

/// The lock on `kprobe_events`, held until dropped.
#[must_use]
pub struct Lock<'a>(&'a File);

impl Event {
    /// Defines an event at the entry or the return of a function. Another
    /// pinwatch may remove it until it is opened: see [`Tracefs::lock`].
    pub fn define(
        tracefs: &Arc<Tracefs>,
        program: &str,
        function: &str,
        at_return: bool,
    ) -> Result<Self, TracefsError> {
        let (group, name) = tracefs.names(program);
        let kind = if at_return {
            format!("r{MAXACTIVE}")
        } else {
            "p".to_owned()
        };
        let line = format!("{kind}:{group}/{name} {function}");
        tracefs.definitions.append(&line)?;
        let path = tracefs.dir.join("events").join(group).join(&name);
        // From here on the definition is to be removed whatever happens.
        let mut event = Self {
            tracefs: Arc::clone(tracefs),
            name,
            id: 0,
        };
        let path = path.join("id");
        let text = fs::read_to_string(&path);
        let id = text.and_then(|text| text.trim().parse().map_err(io::Error::other));
        event.id = id.map_err(|source| at(&path, source))?;
        Ok(event)
    }

    /// Hits and misses so far; `None` where `kprobe_profile` cannot be read.
    #[must_use]
    pub fn profile(&self) -> Option<Profile> {
        profile_of(&self.tracefs.profile.read().ok()?, &self.name)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let line = format!("-:{GROUP}{}/{}", self.tracefs.id, self.name);
        match self.tracefs.definitions.append(&line) {
            // A pinwatch that started in the meantime has removed it.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!("could not remove the kprobe event {}: {error}", self.name);
            }
            Ok(()) => {}
        }
    }
}

impl Tracefs {
    /// Opens the tracefs mounted at `dir`.
    pub fn open(dir: &Path) -> Result<Self, TracefsError> {
        let random = generate::<[u8; 8]>(&SystemRandom::new());
        let random = random.map_err(|_| {
            let source = io::Error::other("the kernel gives no random numbers for a name");
            at(dir, source)
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            id: format!("{:016x}", u64::from_ne_bytes(random.expose())),
            // Appending: opening it in another way to write removes what is there.
            definitions: TraceFile::open(dir, "kprobe_events", |options| options.append(true))?,
            profile: TraceFile::open(dir, "kprobe_profile", |options| options)?,
        })
    }

    /// Group and name of a program's event.
    fn names(&self, program: &str) -> (String, String) {
        let id = &self.id;
        (format!("{GROUP}{id}"), format!("{program}_{id}"))
    }

    /// Keeps other pinwatches from removing events that are not open yet. Waits
    /// while another one defines its events, and says so in the log.
    pub fn lock(&self) -> Result<Lock<'_>, TracefsError> {
        let TraceFile { path, lock, .. } = &self.definitions;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!("waiting for another program's lock on {}", path.display());
                lock.lock().map_err(|source| at(path, source))?;
            }
            Err(TryLockError::Error(source)) => return Err(at(path, source)),
        }
        Ok(Lock(lock))
    }

    /// Removes the events of earlier pinwatches that nothing uses: those that a
    /// killed pinwatch has left behind.
    pub fn remove_leftovers(&self) -> Result<(), TracefsError> {
        let _lock = self.lock()?;
        let path = &self.definitions.path;
        let text = self.definitions.read().map_err(|source| at(path, source))?;
        for event in events(&text) {
            match self.definitions.append(&format!("-:{event}")) {
                Ok(()) => {
                    tracing::info!("removed {event}, left behind by a pinwatch that was killed");
                }
                // A live pinwatch uses it, or has just removed it itself.
                Err(error) if is_in_use(&error) => {}
                Err(error) => {
                    tracing::warn!("could not remove the kprobe event {event}: {error}");
                }
            }
        }
        Ok(())
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Closing the file unlocks it as well.
        let _ = self.0.unlock();
    }
}

fn is_in_use(error: &TracefsError) -> bool {
    let kinds = [io::ErrorKind::ResourceBusy, io::ErrorKind::NotFound];
    kinds.contains(&error.source.kind())
}

impl TraceFile {
    fn open(
        dir: &Path,
        name: &str,
        how: fn(&mut OpenOptions) -> &mut OpenOptions,
    ) -> Result<Self, TracefsError> {
        let path = dir.join(name);
        let file = how(OpenOptions::new().read(true)).open(&path);
        let file = file.map_err(|source| at(&path, source))?;
        let lock = file.try_clone().map_err(|source| at(&path, source))?;
        Ok(Self {
            path,
            file: file.into(),
            lock,
        })
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

/// "group/name" of every event of a pinwatch, also of those versions whose group
/// is named by their process id.
fn events(kprobe_events: &str) -> Vec<String> {
    let events = kprobe_events.lines().filter_map(|line| {
        let event = line.split_once(':')?.1.split(' ').next()?;
        let id = event.strip_prefix(GROUP)?.split_once('/')?.0;
        let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
        is_id.then(|| event.to_owned())
    });
    events.collect()
}

fn profile_of(kprobe_profile: &str, name: &str) -> Option<Profile> {
    kprobe_profile.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        if words.next()? != name {
            return None;
        }
        let mut number = || words.next()?.parse().ok();
        Some(Profile {
            hits: number()?,
            misses: number()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_those_of_pinwatches_of_every_version() {
        let text = "p:pinwatch_12/pin_enter_kprobe __gup_longterm_locked\n\
                    r4096:pinwatch_00c0ffee00c0ffee/pin_exit_kretprobe_00c0ffee00c0ffee __gup_longterm_locked\n\
                    p:other_99/x y\n\
                    p:pinwatch_tests/x y";
        assert_eq!(
            events(text),
            [
                "pinwatch_12/pin_enter_kprobe",
                "pinwatch_00c0ffee00c0ffee/pin_exit_kretprobe_00c0ffee00c0ffee"
            ]
        );
    }

    #[test]
    fn a_profile_is_that_of_the_whole_name() {
        let text =
            "  pin_exit_1        120               0\n  pin_exit_12      118               2\n";
        let profile = Profile {
            hits: 118,
            misses: 2,
        };
        assert_eq!(profile_of(text, "pin_exit_12"), Some(profile));
        assert_eq!(profile_of(text, "pin_exit"), None);
    }
}
