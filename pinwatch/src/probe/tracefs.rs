//! kprobes defined through tracefs, with a chosen `maxactive` and with counts of misses.
//!
//! A kretprobe attached through the perf PMU gets the default `maxactive`. If more threads are inside the
//! function, their returns are lost without a count. A definition in tracefs sets `maxactive`, and
//! `kprobe_profile` counts the returns that are lost nevertheless.
//!
//! A definition belongs to no process. It outlives a killed process, disabled and with nothing attached.
//! The next start removes every definition that nothing uses. The kernel refuses (`EBUSY`) to remove one
//! that perf has open. Between definition and opening, only a lock (flock(2)) on `kprobe_events` protects
//! a definition: define and open under [`Tracefs::lock`].
//!
//! Group and names carry a random id, because process ids recur: in a container every pinwatch is
//! process 1.
//!
//! Only root can open the files of tracefs. They are opened once, so that the daemon can count misses and
//! remove its definitions after it has dropped its capabilities.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ring::rand::{SystemRandom, generate};
use thiserror::Error;

/// Most threads inside the function of a kretprobe: the kernel's maximum (`KRETPROBE_MAXACTIVE_MAX`).
///
/// A kretprobe then takes 250 KiB on 5.10 and 6.1. On 6.12 and 7.3, which have a ring per CPU, it takes
/// 190 KiB and 35 KiB for each possible CPU (measured by /proc/meminfo, with 1 and with 4 CPUs).
const MAXACTIVE: u32 = 4096;

/// Prefix of the group's name. Each process has its own group, `pinwatch_<id>`.
const GROUP: &str = "pinwatch_";

/// Failed access to a file of tracefs.
#[derive(Debug, Error)]
#[error("cannot use {path}: {source}")]
pub struct TracefsError {
    path: String,
    source: io::Error,
}

/// The files of a mounted tracefs that kprobes need.
#[derive(Debug)]
pub struct Tracefs {
    dir: PathBuf,
    /// Random id: 16 hexadecimal digits.
    id: String,
    definitions: TraceFile,
    profile: TraceFile,
}

/// A file of tracefs. Its readers share one offset, so a mutex serialises them.
#[derive(Debug)]
struct TraceFile {
    path: PathBuf,
    file: Mutex<File>,
    /// Duplicate of `file` for flock(2), which needs no offset and must not hold the mutex.
    lock: File,
}

/// A kprobe defined in tracefs. Dropping it removes the definition: close its perf event first.
#[derive(Debug)]
pub struct KprobeEvent {
    tracefs: Arc<Tracefs>,
    /// Unique among all groups, because `kprobe_profile` has no groups.
    name: String,
    /// Id for perf_event_open(2).
    pub id: u64,
}

/// Counts of a kprobe in `kprobe_profile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Calls or returns that the probe handled.
    pub hits: u64,
    /// Calls or returns that the kernel could not handle.
    pub misses: u64,
}

/// Lock on `kprobe_events`, held until dropped.
#[must_use]
pub struct Lock<'a>(&'a File);

impl KprobeEvent {
    /// Defines a kprobe at the entry or return of a function.
    ///
    /// Call it and open the event under [`Tracefs::lock`]: until then another pinwatch may remove it.
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
        // From here on every error must remove the definition: `event` is dropped.
        let mut event = Self {
            tracefs: Arc::clone(tracefs),
            name,
            id: 0,
        };
        let path = path.join("id");
        let text = fs::read_to_string(&path);
        let id = text.and_then(|text| text.trim().parse().map_err(io::Error::other));
        event.id = id.map_err(|source| error_at(&path, source))?;
        Ok(event)
    }

    /// Hits and misses so far; `None` if `kprobe_profile` cannot be read.
    #[must_use]
    pub fn profile(&self) -> Option<Profile> {
        profile_of(&self.tracefs.profile.read().ok()?, &self.name)
    }
}

impl Drop for KprobeEvent {
    fn drop(&mut self) {
        let line = format!("-:{GROUP}{}/{}", self.tracefs.id, self.name);
        match self.tracefs.definitions.append(&line) {
            // A pinwatch that started meanwhile has removed the definition.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(
                    "pinwatch cannot remove its kprobe {}, the next start tries again: {error}",
                    self.name
                );
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
            let source =
                io::Error::other("the kernel provides no random numbers for the names of kprobes");
            error_at(dir, source)
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            id: format!("{:016x}", u64::from_ne_bytes(random.expose())),
            // Without O_TRUNC, which would remove the definitions of all programs.
            definitions: TraceFile::open(dir, "kprobe_events", |options| options.append(true))?,
            profile: TraceFile::open(dir, "kprobe_profile", |options| options)?,
        })
    }

    /// Group and name of a program's kprobe.
    fn names(&self, program: &str) -> (String, String) {
        let id = &self.id;
        (format!("{GROUP}{id}"), format!("{program}_{id}"))
    }

    /// Keeps other pinwatch processes from removing definitions that are not open yet.
    ///
    /// Blocks, with a log message, while another process holds the lock.
    pub fn lock(&self) -> Result<Lock<'_>, TracefsError> {
        let TraceFile { path, lock, .. } = &self.definitions;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!(
                    "pinwatch is waiting for another program's lock on {}",
                    path.display()
                );
                lock.lock().map_err(|source| error_at(path, source))?;
            }
            Err(TryLockError::Error(source)) => return Err(error_at(path, source)),
        }
        Ok(Lock(lock))
    }

    /// Removes unused definitions of earlier pinwatch processes, which were killed.
    pub fn remove_leftovers(&self) -> Result<(), TracefsError> {
        let _lock = self.lock()?;
        let path = &self.definitions.path;
        let text = self
            .definitions
            .read()
            .map_err(|source| error_at(path, source))?;
        for event in pinwatch_kprobes(&text) {
            match self.definitions.append(&format!("-:{event}")) {
                Ok(()) => {
                    tracing::info!(
                        "pinwatch removed the kprobe {event} of a pinwatch that was killed"
                    );
                }
                // A running pinwatch uses the definition, or has just removed it.
                Err(error) if is_used_or_gone(&error) => {}
                Err(error) => {
                    tracing::warn!(
                        "pinwatch cannot remove the kprobe {event} of an earlier start: {error}"
                    );
                }
            }
        }
        Ok(())
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // An error is harmless: closing the file unlocks it too.
        let _ = self.0.unlock();
    }
}

fn is_used_or_gone(error: &TracefsError) -> bool {
    let kinds = [io::ErrorKind::ResourceBusy, io::ErrorKind::NotFound];
    kinds.contains(&error.source.kind())
}

impl TraceFile {
    fn open(
        dir: &Path,
        name: &str,
        mode: fn(&mut OpenOptions) -> &mut OpenOptions,
    ) -> Result<Self, TracefsError> {
        let path = dir.join(name);
        let file = mode(OpenOptions::new().read(true)).open(&path);
        let file = file.map_err(|source| error_at(&path, source))?;
        let lock = file.try_clone().map_err(|source| error_at(&path, source))?;
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
        written.map_err(|source| error_at(&self.path, source))
    }
}

fn error_at(path: &Path, source: io::Error) -> TracefsError {
    TracefsError {
        path: path.display().to_string(),
        source,
    }
}

/// "group/name" of every kprobe that a pinwatch defined. Earlier versions put the process id into the group.
#[must_use]
pub fn pinwatch_kprobes(kprobe_events: &str) -> Vec<String> {
    let events = kprobe_events.lines().filter_map(|line| {
        let event = line.split_once(':')?.1.split(' ').next()?;
        let id = event.strip_prefix(GROUP)?.split_once('/')?.0;
        let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
        is_id.then(|| event.to_owned())
    });
    events.collect()
}

/// Counts of a kprobe in the text of `kprobe_profile`; `None` if it is not there.
#[must_use]
pub fn profile_of(kprobe_profile: &str, name: &str) -> Option<Profile> {
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
    fn kprobes_of_every_pinwatch_version_are_found() {
        let text = "p:pinwatch_12/pin_enter_kprobe __gup_longterm_locked\n\
                    r4096:pinwatch_00c0ffee00c0ffee/pin_exit_kretprobe_00c0ffee00c0ffee __gup_longterm_locked\n\
                    p:other_99/x y\n\
                    p:pinwatch_tests/x y";
        assert_eq!(
            pinwatch_kprobes(text),
            [
                "pinwatch_12/pin_enter_kprobe",
                "pinwatch_00c0ffee00c0ffee/pin_exit_kretprobe_00c0ffee00c0ffee"
            ]
        );
    }

    #[test]
    fn a_profile_needs_the_whole_name() {
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
