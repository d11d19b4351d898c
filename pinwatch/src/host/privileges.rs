//! Giving up what only attaching needs.
//!
//! Capabilities are a thread's own. The thread that attaches keeps what it was
//! started with, and ends; every other thread comes from one that has called
//! [`drop_capabilities`]. What the daemon does later works by descriptors that
//! were opened before.

use std::io;

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};

/// What the daemon does with its capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Capabilities {
    /// Give all of them up once everything is attached
    Drop,
    /// Keep them, which only the stacks of sleeping threads need
    Keep,
}

/// From now on no program that this process starts can have more than it has.
pub fn gain_none() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().context("cannot set no_new_privs")
}

/// Gives up the capabilities of this thread, and so of those that it starts
/// later. Where the kernel demands one for every change of a map, that stays.
pub fn drop_capabilities() -> Result<()> {
    let held = caps::read(None, CapSet::Permitted)?;
    if held.is_empty() {
        return Ok(());
    }
    caps::clear(None, CapSet::Effective)?;
    let mut kept = CapsHashSet::new();
    if maps_are_closed() {
        let opening = [Capability::CAP_BPF, Capability::CAP_SYS_ADMIN];
        kept.extend(opening.into_iter().find(|one| held.contains(one)));
    }
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set)?;
    }
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::set(None, CapSet::Effective, &kept)?;
    for capability in kept {
        tracing::info!("{capability} stays: this kernel refuses every bpf(2) call without it");
    }
    Ok(())
}

/// Up to 5.18 `kernel.unprivileged_bpf_disabled` closes bpf(2) as a whole to
/// those without capabilities; since then maps stay open to who has a descriptor
/// (c8644cd0efe7).
fn maps_are_closed() -> bool {
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    // No map has this descriptor: all that is asked for is the refusal.
    let no_map = [u64::MAX; 4];
    // SAFETY: the call reads `no_map` and, without a map, nothing else.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_UPDATE_ELEM,
            no_map.as_ptr(),
            size_of_val(&no_map),
        )
    };
    result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}
