//! The changes that a load makes to the host, from the first one until everything is restored.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::unistd::{Pid, getpid};

use super::change::{Change, State};
use super::disruption;
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
    owner: Pid,
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
        *locked(&CURRENT) = Some(session.changes.clone());
        session
    }

    fn new(host: Host, folder: &Path, allowed: bool) -> Self {
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

#[cfg(test)]
pub mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::host::{hugetlb_pool, recovery, rt_throttling};

    /// A host with files in a temporary folder.
    pub struct Fake {
        root: TempDir,
        pub host: Host,
        pub folder: PathBuf,
    }

    impl Fake {
        pub fn new() -> Self {
            let root = TempDir::new().unwrap();
            let fake = Self {
                host: Host::under(root.path()),
                folder: root.path().join("state"),
                root,
            };
            fake.set("proc/sys/kernel/random/boot_id", "this-boot\n");
            fake.set(rt_throttling::SYSCTL, "950000\n");
            fake.set(hugetlb_pool::SIZE, "1\n");
            let pool = Path::new(hugetlb_pool::SIZE).parent().unwrap();
            fake.set(pool.join("free_hugepages"), "1\n");
            fake.set(pool.join("resv_hugepages"), "0\n");
            fake
        }

        pub fn set(&self, path: impl AsRef<Path>, text: &str) {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        pub fn get(&self, path: &str) -> String {
            self.host.text(path).unwrap()
        }

        pub fn session(&self, allowed: bool) -> Session {
            Session::new(self.host.clone(), &self.folder, allowed)
        }

        /// A load that makes its changes and is killed.
        pub fn killed(&self, changes: impl FnOnce(&Session)) {
            let mut session = self.session(true);
            changes(&session);
            session.owner = Pid::from_raw(1);
        }

        pub fn has_state(&self) -> bool {
            path(&self.folder).exists()
        }
    }

    #[test]
    fn the_host_is_restored_at_the_end() {
        let fake = Fake::new();
        let session = fake.session(true);
        rt_throttling::switch_off(&session).unwrap();
        assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
        assert!(fake.has_state());
        drop(session);
        assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
        assert!(!fake.has_state());
    }

    #[test]
    fn nothing_changes_without_consent() {
        let fake = Fake::new();
        let session = fake.session(false);
        let refused = rt_throttling::switch_off(&session).unwrap_err();
        assert!(refused.is::<Unavailable>());
        assert!(refused.to_string().contains("--disruptive"), "{refused}");
        assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
        assert!(!fake.folder.exists());
    }

    #[test]
    fn the_old_value_is_recorded_before_the_change() {
        let fake = Fake::new();
        let session = fake.session(true);
        let change = Change::RtThrottling { before: 950_000 };
        session
            .make(change, |_| {
                assert!(fake.has_state());
                assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn throttling_that_is_off_stays_off() {
        let fake = Fake::new();
        fake.set(rt_throttling::SYSCTL, "-1\n");
        let session = fake.session(false);
        rt_throttling::switch_off(&session).unwrap();
        drop(session);
        assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
    }

    #[test]
    fn a_value_that_somebody_changed_since_stays() {
        let fake = Fake::new();
        let session = fake.session(true);
        rt_throttling::switch_off(&session).unwrap();
        fake.set(rt_throttling::SYSCTL, "700000\n");
        drop(session);
        assert_eq!(fake.get(rt_throttling::SYSCTL), "700000");
        assert!(!fake.has_state());
    }

    #[test]
    fn a_pool_that_grows_too_little_is_restored() {
        let fake = Fake::new();
        let session = fake.session(true);
        // The fake kernel adds no free page.
        let refused = hugetlb_pool::ensure_free(&session, 3).unwrap_err();
        assert!(refused.is::<Unavailable>(), "{refused:#}");
        assert_eq!(fake.get(hugetlb_pool::SIZE), "3");
        drop(session);
        assert_eq!(fake.get(hugetlb_pool::SIZE), "1");
    }

    #[test]
    fn a_pool_with_free_pages_stays() {
        let fake = Fake::new();
        hugetlb_pool::ensure_free(&fake.session(false), 1).unwrap();
        assert_eq!(fake.get(hugetlb_pool::SIZE), "1");
    }

    #[test]
    fn a_second_disruptive_load_waits() {
        let fake = Fake::new();
        let first = fake.session(true);
        rt_throttling::switch_off(&first).unwrap();
        let refused = hugetlb_pool::ensure_free(&fake.session(true), 3).unwrap_err();
        assert!(refused.to_string().contains("running"), "{refused}");
    }

    #[test]
    fn the_next_start_restores_after_a_kill() {
        let fake = Fake::new();
        fake.killed(|session| {
            rt_throttling::switch_off(session).unwrap();
            let _ = hugetlb_pool::ensure_free(session, 3);
        });
        assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
        recovery::recover(&fake.host, &fake.folder);
        assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
        assert_eq!(fake.get(hugetlb_pool::SIZE), "1");
        assert!(!fake.has_state());
    }

    #[test]
    fn a_change_that_cannot_be_undone_stays_recorded() {
        let fake = Fake::new();
        fake.killed(|session| rt_throttling::switch_off(session).unwrap());
        let text = fs::read_to_string(path(&fake.folder)).unwrap();
        let text = text.replace(&format!("\"pid\":{}", std::process::id()), "\"pid\":7");
        fs::write(path(&fake.folder), &text).unwrap();
        fs::remove_file(fake.host.path(rt_throttling::SYSCTL)).unwrap();
        recovery::recover(&fake.host, &fake.folder);
        assert_eq!(fs::read_to_string(path(&fake.folder)).unwrap(), text);
    }

    #[test]
    fn changes_of_an_earlier_boot_are_not_restored() {
        let fake = Fake::new();
        fake.killed(|session| rt_throttling::switch_off(session).unwrap());
        fake.set("proc/sys/kernel/random/boot_id", "next-boot\n");
        recovery::recover(&fake.host, &fake.folder);
        assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
        assert!(!fake.has_state());
    }

    #[test]
    fn an_unreadable_state_file_stays_and_blocks_changes() {
        let fake = Fake::new();
        fake.killed(|session| rt_throttling::switch_off(session).unwrap());
        fs::write(path(&fake.folder), "{").unwrap();
        recovery::recover(&fake.host, &fake.folder);
        assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
        assert!(fake.has_state());
        fake.set(rt_throttling::SYSCTL, "950000\n");
        let refused = rt_throttling::switch_off(&fake.session(true)).unwrap_err();
        assert!(refused.is::<Unavailable>(), "{refused:#}");
    }

    #[test]
    fn a_second_signal_restores_the_current_session() {
        let fake = Fake::new();
        let session = fake.session(true);
        *locked(&CURRENT) = Some(session.changes.clone());
        rt_throttling::switch_off(&session).unwrap();
        restore_now();
        assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
        assert!(!fake.has_state());
    }

    #[test]
    fn a_forked_child_restores_nothing() {
        let fake = Fake::new();
        fake.killed(|session| rt_throttling::switch_off(session).unwrap());
        assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
        assert!(fake.has_state());
    }

    #[test]
    fn a_failed_change_is_undone_and_forgotten() {
        let fake = Fake::new();
        let session = fake.session(true);
        let change = Change::RtThrottling { before: 950_000 };
        let failed = session.make(change, |host| {
            host.write(rt_throttling::SYSCTL, "-1")?;
            anyhow::bail!("half-way")
        });
        assert_eq!(failed.unwrap_err().to_string(), "half-way");
        assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
        assert!(!fake.has_state());
    }

    #[test]
    fn a_running_load_is_left_alone() {
        let fake = Fake::new();
        let session = fake.session(true);
        rt_throttling::switch_off(&session).unwrap();
        recovery::recover(&fake.host, &fake.folder);
        assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
    }
}
