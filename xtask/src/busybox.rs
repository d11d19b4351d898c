//! The guest's shell and tools: Debian's statically linked busybox, fetched like the kernels.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::apt::{Apt, MirrorArgs};
use crate::cache::Cache;
use crate::kernels::TRIXIE;

const ENTRY: &str = "busybox";

/// The program, from the cache or from the network.
pub fn fetch(cache: &Cache, mirrors: &MirrorArgs) -> Result<PathBuf> {
    let program = cache.path(ENTRY).join("busybox");
    if !program.exists() {
        let _lock = cache.lock(ENTRY)?;
        if !program.exists() {
            download(cache, mirrors).context("cannot fetch busybox")?;
        }
    }
    Ok(program)
}

fn download(cache: &Cache, mirrors: &MirrorArgs) -> Result<()> {
    let scratch = cache.scratch()?;
    let (root, made) = (scratch.path().join("root"), scratch.path().join("made"));
    fs::create_dir(&root)?;
    fs::create_dir(&made)?;
    Apt::update(cache, TRIXIE, mirrors)?.unpack(&["busybox-static".to_owned()], &root)?;
    // Since trixie everything is below /usr.
    let found = ["usr/bin/busybox", "bin/busybox"]
        .map(|path| root.join(path))
        .into_iter()
        .find(|path| path.exists());
    fs::copy(
        found.context("the package has no busybox")?,
        made.join("busybox"),
    )?;
    cache.publish(&made, ENTRY)?;
    Ok(())
}
