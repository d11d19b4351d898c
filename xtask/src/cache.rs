//! The folder where fetched kernels and built tools are kept between runs.
//!
//! Entries appear by renaming a finished folder into place, under a lock, so that several xtasks
//! at once never see a half-made one. Everything in it can be deleted at any time.

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

/// Held while an entry is being made; let go when dropped.
pub struct Lock {
    _file: File,
}

impl Cache {
    /// Opens the folder of [`cache_folder`], and makes it if need be.
    pub fn open() -> Result<Self> {
        let root = cache_folder().context("no place for the cache: set PINWATCH_CACHE, or HOME")?;
        fs::create_dir_all(&root)
            .with_context(|| format!("cannot create the cache folder {}", root.display()))?;
        Ok(Self {
            root: root.canonicalize()?,
        })
    }

    pub fn path(&self, entry: &str) -> PathBuf {
        self.root.join(entry)
    }

    /// Waits until nobody else makes the entry: another xtask, or another thread of this one.
    pub fn lock(&self, entry: &str) -> Result<Lock> {
        let path = self.root.join("locks").join(entry.replace('/', "-"));
        fs::create_dir_all(path.parent().expect("the path was joined"))?;
        let file = File::create(&path)?;
        let free = || flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !free() {
            eprintln!("xtask: waiting for somebody else who is making {entry}");
            while !free() {
                child::check_interrupted()?;
                sleep(Duration::from_millis(100));
            }
        }
        Ok(Lock { _file: file })
    }

    /// A folder to make an entry in, on the same file system as the entry will be.
    pub fn scratch(&self) -> Result<TempDir> {
        let dir = self.root.join("scratch");
        fs::create_dir_all(&dir)?;
        Ok(TempDir::new_in(dir)?)
    }

    /// Puts a finished folder in place of whatever was there.
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
