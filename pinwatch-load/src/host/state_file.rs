//! `/run/pinwatch-load`: the lock that allows one disruptive load at a time, and the changes that it has made.
//!
//! The file is read back by a privileged process, so it is parsed strictly: owner, permissions, size, boot, every value.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::change::Change;
use super::files::Host;

pub const FOLDER: &str = "/run/pinwatch-load";

const VERSION: u32 = 1;
/// Bytes of the largest file that is read.
const LARGEST: u64 = 4096;
/// A load makes one change of a kind, and there are four kinds.
const MOST_CHANGES: usize = 4;

/// The changes of one load.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    version: u32,
    boot_id: String,
    pub pid: u32,
    pub changes: Vec<Change>,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Locked {
    #[error("no load has changed this host")]
    Absent,
    #[error("another `pinwatch load --disruptive` is running: wait for its end")]
    Busy,
    #[error("this process may not write the state file in {FOLDER}: run it as root")]
    Denied,
    #[error("{0}")]
    Untrusted(String),
    #[error("the state file in {FOLDER} is not writable: {0}")]
    Io(io::Error),
}

/// The locked folder.
#[derive(Debug)]
pub struct StateFile {
    folder: PathBuf,
    boot_id: String,
    _lock: Flock<File>,
}

impl StateFile {
    /// Locks the folder. Creates it if `create`, and returns [`Locked::Absent`] otherwise.
    pub fn lock(folder: &Path, host: &Host, create: bool) -> Result<Self, Locked> {
        if create {
            match DirBuilder::new().mode(0o755).create(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Locked::from(error));
                }
                _ => (),
            }
        }
        let metadata = match fs::symlink_metadata(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Locked::Absent),
            metadata => metadata.map_err(Locked::from)?,
        };
        if !metadata.is_dir() || !is_trusted(&metadata) {
            return Err(Locked::Untrusted(format!(
                "{} is not a folder that only root can write: delete it",
                folder.display()
            )));
        }
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(folder.join("lock"))
            .map_err(Locked::from)?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    Errno::EWOULDBLOCK => Locked::Busy,
                    errno => Locked::Io(errno.into()),
                },
            )?;
        Ok(Self {
            folder: folder.into(),
            boot_id: boot_id(host).map_err(Locked::Io)?,
            _lock: lock,
        })
    }

    pub fn read(&self) -> Result<Option<Content>, String> {
        read(&self.folder, &self.boot_id)
    }

    /// Records the changes of this process in place of all others.
    pub fn write(&self, changes: &[Change]) -> io::Result<()> {
        self.write_for(process::id(), changes)
    }

    /// Records the changes of a process in place of all others. Without changes there is no file.
    pub fn write_for(&self, pid: u32, changes: &[Change]) -> io::Result<()> {
        let path = path(&self.folder);
        if changes.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let content = Content {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            pid,
            changes: changes.to_vec(),
        };
        // A reader finds the old content or the new, whenever the writer is killed.
        let new = self.folder.join("state.json.new");
        let _ = fs::remove_file(&new);
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&new)?
            .write_all(&serde_json::to_vec(&content)?)?;
        fs::rename(new, path)
    }
}

impl From<io::Error> for Locked {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied,
            _ => Self::Io(error),
        }
    }
}

/// Reads the changes of this boot without the lock, for a process that may not take it.
pub fn peek(folder: &Path, host: &Host) -> Result<Option<Content>, String> {
    let boot_id = boot_id(host).map_err(|error| error.to_string())?;
    read(folder, &boot_id)
}

pub fn path(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

fn read(folder: &Path, boot_id: &str) -> Result<Option<Content>, String> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path(folder));
    let file = match file {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| error.to_string())?,
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() || !is_trusted(&metadata) {
        return Err("it is not a file that only root can write".to_owned());
    }
    let mut text = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > LARGEST {
        return Err(format!("it is larger than {LARGEST} bytes"));
    }
    parse(&text, boot_id)
}

fn parse(text: &[u8], boot_id: &str) -> Result<Option<Content>, String> {
    let content: Content = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if content.version != VERSION {
        return Err(format!("its version is not {VERSION}"));
    }
    if content.changes.is_empty()
        || content.changes.len() > MOST_CHANGES
        || !content.changes.iter().all(Change::is_plausible)
    {
        return Err("it has changes that no load makes".to_owned());
    }
    // A boot undoes every change.
    Ok((content.boot_id == boot_id).then_some(content))
}

fn boot_id(host: &Host) -> io::Result<String> {
    host.text("proc/sys/kernel/random/boot_id")
}

/// Whether only root, or this user, can have written it.
fn is_trusted(metadata: &fs::Metadata) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    [0, geteuid().as_raw()].contains(&metadata.uid()) && metadata.mode() & WRITABLE_BY_OTHERS == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    const RT: Change = Change::RtThrottling { before: 950_000 };

    fn host() -> (TempDir, Host, PathBuf) {
        let root = TempDir::new().unwrap();
        let random = root.path().join("proc/sys/kernel/random");
        fs::create_dir_all(&random).unwrap();
        fs::write(random.join("boot_id"), "this-boot\n").unwrap();
        let host = Host::under(root.path());
        let folder = root.path().join("state");
        (root, host, folder)
    }

    #[test]
    fn changes_are_read_back_and_removed() {
        let (_root, host, folder) = host();
        assert!(matches!(
            StateFile::lock(&folder, &host, false),
            Err(Locked::Absent)
        ));
        let state = StateFile::lock(&folder, &host, true).unwrap();
        assert_eq!(state.read(), Ok(None));
        state.write(&[RT]).unwrap();
        let content = state.read().unwrap().unwrap();
        assert_eq!((content.pid, content.changes), (process::id(), vec![RT]));
        state.write(&[]).unwrap();
        state.write(&[]).unwrap();
        assert_eq!(state.read(), Ok(None));
    }

    #[test]
    fn one_load_has_the_lock() {
        let (_root, host, folder) = host();
        let first = StateFile::lock(&folder, &host, true).unwrap();
        assert!(matches!(
            StateFile::lock(&folder, &host, true),
            Err(Locked::Busy)
        ));
        drop(first);
        assert!(StateFile::lock(&folder, &host, false).is_ok());
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let (root, host, folder) = host();
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let link = root.path().join("link");
        symlink(root.path(), &link).unwrap();
        for folder in [folder, link] {
            assert!(matches!(
                StateFile::lock(&folder, &host, true),
                Err(Locked::Untrusted(_))
            ));
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let (root, host, folder) = host();
        let state = StateFile::lock(&folder, &host, true).unwrap();
        state.write(&[RT]).unwrap();
        let path = path(&folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(state.read().is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(state.read().is_ok());
        let elsewhere = root.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(state.read().is_err());
    }

    #[test]
    fn another_boot_has_no_changes() {
        let text = r#"{"version":1,"boot_id":"old","pid":7,"changes":[{"rt_throttling":{"before":950000}}]}"#;
        assert_eq!(parse(text.as_bytes(), "new"), Ok(None));
        assert!(parse(text.as_bytes(), "old").unwrap().is_some());
    }

    #[test]
    fn hostile_content_is_refused() {
        let change = r#"{"rt_throttling":{"before":950000}}"#;
        let with = |changes: &str| {
            format!(r#"{{"version":1,"boot_id":"b","pid":7,"changes":[{changes}]}}"#)
        };
        assert!(parse(with(change).as_bytes(), "b").is_ok());
        for text in [
            String::new(),
            "null".to_owned(),
            with(""),
            with(&[change; 5].join(",")),
            with(r#"{"rt_throttling":{"before":-7}}"#),
            with(change).replace("\"version\":1", "\"version\":2"),
            with(change).replace("\"pid\":7", "\"pid\":-7"),
            with(change).replace("\"pid\":7", "\"pid\":7,\"uid\":0"),
            with(change) + "x",
            with(change)[..40].to_owned(),
            "[".repeat(4000),
        ] {
            assert!(parse(text.as_bytes(), "b").is_err(), "{text}");
        }
        let (_root, host, folder) = host();
        let state = StateFile::lock(&folder, &host, true).unwrap();
        let large = with(change) + &" ".repeat(LARGEST as usize);
        fs::write(path(&folder), large).unwrap();
        fs::set_permissions(path(&folder), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(state.read().unwrap_err().contains("larger"));
    }
}
