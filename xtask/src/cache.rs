//! The folder that keeps fetched kernels and built tools between runs.
//!
//! An entry is made in a scratch folder, then renamed into place under a lock. Concurrent xtasks never see
//! an unfinished entry. Everything in the cache can be deleted at any time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::build::compiler::cache_folder;
use crate::child;

pub struct Cache {
    root: PathBuf,
}

/// Held while an entry is made; released when dropped.
pub struct Lock {
    _file: File,
}

impl Cache {
    /// Opens the folder of [`cache_folder`]; creates it if it does not exist.
    pub fn open() -> Result<Self> {
        let root = cache_folder().context("the cache has no place: set PINWATCH_CACHE or HOME")?;
        fs::create_dir_all(&root)
            .with_context(|| format!("cannot create the cache folder {}", root.display()))?;
        Ok(Self {
            root: root.canonicalize()?,
        })
    }

    pub fn path(&self, entry: &str) -> PathBuf {
        self.root.join(entry)
    }

    /// Waits until no other xtask, and no other thread of this one, is making the entry.
    pub fn lock(&self, entry: &str) -> Result<Lock> {
        let path = self.root.join("locks").join(entry.replace('/', "-"));
        fs::create_dir_all(path.parent().expect("the path was joined"))?;
        let file = File::create(&path)?;
        let free = || flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !free() {
            eprintln!("xtask: waiting for another xtask that is making {entry}");
            while !free() {
                child::check_interrupted()?;
                sleep(Duration::from_millis(100));
            }
        }
        Ok(Lock { _file: file })
    }

    /// A folder to make an entry in, on the file system of the cache.
    pub fn scratch(&self) -> Result<TempDir> {
        let dir = self.root.join("scratch");
        fs::create_dir_all(&dir)?;
        Ok(TempDir::new_in(dir)?)
    }

    /// Renames a finished folder into place; replaces an older entry.
    pub fn publish(&self, made: &Path, entry: &str) -> Result<PathBuf> {
        let path = self.path(entry);
        fs::create_dir_all(path.parent().expect("the path was joined"))?;
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::rename(made, &path)?;
        Ok(path)
    }
}
