//! Drops the capabilities that only attaching needs.
//!
//! Each thread has its own capabilities. The thread that attaches keeps those of its start, and ends.
//! Every other thread descends from one that has called [`drop_capabilities`]. Later the daemon uses
//! descriptors that were opened before.

use std::io;

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};

/// The daemon's treatment of its capabilities after attaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Capabilities {
    /// Drop all capabilities once every hook is attached
    Drop,
    /// Keep all capabilities; only kernel stacks of sleeping threads need them
    Keep,
}

/// Sets `no_new_privs`: no program that this process starts can gain privileges.
pub fn gain_none() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().context("cannot set no_new_privs")
}

/// Drops the capabilities of this thread and of the threads that it starts later.
///
/// If the kernel refuses every bpf(2) call without `CAP_BPF` or `CAP_SYS_ADMIN`, one of these two stays:
/// changing the followers' filters needs bpf(2).
pub fn drop_capabilities() -> Result<()> {
    const CANNOT_DROP: &str =
        "cannot drop the capabilities of this thread (--capabilities keep leaves them)";
    let held = caps::read(None, CapSet::Permitted)
        .context("cannot read the capabilities of this thread")?;
    if held.is_empty() {
        return Ok(());
    }
    caps::clear(None, CapSet::Effective).context(CANNOT_DROP)?;
    let mut kept = CapsHashSet::new();
    if map_changes_need_capability() {
        let sufficient = [Capability::CAP_BPF, Capability::CAP_SYS_ADMIN];
        kept.extend(sufficient.into_iter().find(|one| held.contains(one)));
    }
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).context(CANNOT_DROP)?;
    }
    caps::set(None, CapSet::Permitted, &kept).context(CANNOT_DROP)?;
    caps::set(None, CapSet::Effective, &kept).context(CANNOT_DROP)?;
    for capability in kept {
        tracing::info!(
            "pinwatch keeps {capability}: this kernel refuses every bpf(2) call without it"
        );
    }
    Ok(())
}

/// Whether changing a map takes a capability.
///
/// Up to 5.18 `kernel.unprivileged_bpf_disabled` refuses every bpf(2) call without capabilities. Since
/// c8644cd0efe7 a descriptor of a map is enough to change it.
fn map_changes_need_capability() -> bool {
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    // No map has this descriptor, so the call fails: with EPERM only if bpf(2) as a whole is refused.
    let no_map = [u64::MAX; 4];
    // SAFETY: the call reads `no_map` alone, because no map has this descriptor.
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
