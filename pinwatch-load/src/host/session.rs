//! The changes that a load makes to the host, from the first one until everything is restored.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::unistd::{Pid, getpid};

use super::change::Change;
use super::disruption;
use super::effect::State;
use super::files::Host;
use super::state_file::{FOLDER, StateFile, path};
use crate::error::Unavailable;

/// How long a process that a second signal ends waits for the host to be restored.
const RESTORE_WITHIN: Duration = Duration::from_secs(5);

/// The session that [`restore_now`] restores.
static CURRENT: Mutex<Option<Arc<Mutex<Changes>>>> = Mutex::new(None);

/// The only way to change the host. Restores it when dropped by the process that made it.
pub struct Session {
    host: Host,
    /// A forked child has a copy of this, and must not restore anything.
    pub(super) owner: Pid,
    changes: Arc<Mutex<Changes>>,
}

struct Changes {
    host: Host,
    folder: PathBuf,
    /// Whether the user gave `--disruptive`.
    allowed: bool,
    state: Option<StateFile>,
    /// In the order in which they were made.
    made: Vec<Change>,
}

impl Session {
    /// A session on this machine, which [`restore_now`] restores too.
    pub fn begin(allowed: bool) -> Self {
        let session = Self::new(Host::this(), Path::new(FOLDER), allowed);
        session.become_current();
        session
    }

    pub(super) fn new(host: Host, folder: &Path, allowed: bool) -> Self {
        let changes = Changes {
            host: host.clone(),
            folder: folder.into(),
            allowed,
            state: None,
            made: Vec::new(),
        };
        Self {
            host,
            owner: getpid(),
            changes: Arc::new(Mutex::new(changes)),
        }
    }

    /// Makes this the session that [`restore_now`] restores.
    pub(super) fn become_current(&self) {
        *locked(&CURRENT) = Some(self.changes.clone());
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Records a change, announces it on stderr, and makes it by `act`. A failed change is undone at once.
    pub fn make(
        &self,
        change: Change,
        act: impl FnOnce(&Host) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        locked(&self.changes).make(change, act)
    }

    /// Replaces the last recorded change, whose result was not as planned.
    pub fn amend(&self, change: Change) -> anyhow::Result<()> {
        let mut changes = locked(&self.changes);
        changes.made.pop();
        changes.made.push(change);
        changes.save()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.owner == getpid() {
            locked(&self.changes).restore();
        }
    }
}

impl Changes {
    fn make(
        &mut self,
        change: Change,
        act: impl FnOnce(&Host) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.allowed {
            return Err(disruption::refusal(&[format!(
                "must {}",
                change.describe()
            )]));
        }
        anyhow::ensure!(
            change.is_plausible(),
            "the state file cannot hold the present state of the host, so the load does not {}",
            change.describe()
        );
        self.lock()?;
        eprintln!("pinwatch load: will {} until the end", change.describe());
        self.made.push(change);
        if let Err(error) = self.save().and_then(|()| act(&self.host)) {
            self.undo_last();
            return Err(error);
        }
        Ok(())
    }

    fn lock(&mut self) -> anyhow::Result<()> {
        if self.state.is_some() {
            return Ok(());
        }
        let state = StateFile::lock(&self.folder, &self.host, true)
            .map_err(|locked| Unavailable::because(locked.to_string()))?;
        // The start restored what it could. The rest must not be overwritten.
        if !matches!(state.read(), Ok(None)) {
            return Err(Unavailable::because(format!(
                "an earlier load left changes that are not restored: restore them, then delete {}",
                path(&self.folder).display()
            )));
        }
        self.state = Some(state);
        Ok(())
    }

    fn save(&self) -> anyhow::Result<()> {
        match &self.state {
            Some(state) => state
                .write(&self.made)
                .with_context(|| format!("cannot write {}", path(&self.folder).display())),
            None => Ok(()),
        }
    }

    /// Undoes a change that failed half-way.
    fn undo_last(&mut self) {
        let failed = self.made.pop();
        let kept = restore(&self.host, failed.into_iter().collect());
        self.made.extend(kept);
        self.report_unsaved();
    }

    fn restore(&mut self) {
        if self.made.is_empty() {
            return;
        }
        self.made = restore(&self.host, std::mem::take(&mut self.made));
        self.report_unsaved();
        // Releases the lock.
        self.state = None;
    }

    fn report_unsaved(&self) {
        if let Err(error) = self.save() {
            eprintln!("pinwatch load: {error:#}");
        }
    }
}

/// Undoes changes, the last one first. Returns those that are still in effect.
pub fn restore(host: &Host, changes: Vec<Change>) -> Vec<Change> {
    let mut kept: Vec<Change> = changes
        .into_iter()
        .rev()
        .filter(|change| !undo(host, change))
        .collect();
    kept.reverse();
    kept
}

/// Undoes a change that is still as the load left it. Returns whether there is nothing left to undo.
fn undo(host: &Host, change: &Change) -> bool {
    let (what, before) = (change.what(), change.before());
    let done = change.state(host).and_then(|state| {
        if state == State::Ours {
            change.undo(host)?;
        }
        Ok(state)
    });
    match done {
        Ok(State::AsBefore) => true,
        Ok(State::Ours) => {
            eprintln!("pinwatch load: restored {what} to {before}");
            true
        }
        Ok(State::Changed(now)) => {
            eprintln!(
                "pinwatch load: {what} is not restored to {before}: {now}, so somebody changed it since. By hand: {}",
                change.by_hand()
            );
            true
        }
        Ok(State::InUse(why)) => {
            eprintln!(
                "pinwatch load: {what} is not restored to {before}: {why}. The next `pinwatch load` tries again. By hand: {}",
                change.by_hand()
            );
            false
        }
        Err(error) => {
            eprintln!(
                "pinwatch load: {what} is not restored to {before}: {error:#}. The next `pinwatch load` tries again. By hand: {}",
                change.by_hand()
            );
            false
        }
    }
}

/// Restores the host before a signal ends the process, and gives up after [`RESTORE_WITHIN`].
///
/// The thread that makes a change can hang in the kernel, with the lock.
pub fn restore_now() {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let current = locked(&CURRENT).clone();
        if let Some(changes) = current {
            locked(&changes).restore();
        }
        let _ = done.send(());
    });
    if is_done.recv_timeout(RESTORE_WITHIN).is_err() {
        eprintln!(
            "pinwatch load: restoring the host takes longer than {} s: the next start of pinwatch load tries again",
            RESTORE_WITHIN.as_secs()
        );
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
