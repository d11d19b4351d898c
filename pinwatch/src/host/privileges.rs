//! Drops the user and the capabilities that only attaching needs.
//!
//! Each thread has its own credentials. The thread that attaches keeps those of its start, and ends.
//! Every other thread descends from one that has called [`become_user`] and [`drop_capabilities`]. Later the
//! daemon uses descriptors that were opened before.

use std::fs;
use std::io;
use std::str::FromStr;

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

/// A user with one group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// The user who owns no file. Every Linux has this number; a container may have no /etc/passwd.
    pub const NOBODY: Self = Self {
        uid: 65534,
        gid: 65534,
    };

    fn is_root(self) -> bool {
        self.uid == 0
    }
}

impl FromStr for User {
    type Err = String;

    /// A name of /etc/passwd, `UID` or `UID:GID`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        // setresuid(2) takes -1 as "no change".
        let number = |text: &str| text.parse().ok().filter(|number| *number != u32::MAX);
        if let (Some(uid), Some(gid)) = (number(uid), number(gid)) {
            return Ok(Self { uid, gid });
        }
        let passwd = fs::read("/etc/passwd").unwrap_or_default();
        named(&String::from_utf8_lossy(&passwd), text).ok_or_else(|| {
            "expected a user of /etc/passwd, a user id, or UID:GID, such as 65534:65534".to_owned()
        })
    }
}

/// A user by its name. The static C library cannot ask other services than the file.
fn named(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        Some(User {
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    })
}

/// Changes the user of this thread, and of the threads that it starts later, from root to `user`, or to
/// [`User::NOBODY`]. Keeps the permitted capabilities: call [`drop_capabilities`] afterwards.
///
/// Returns whether the user has changed. Without `user` it stays if this process is not root, or has no
/// capability to change it, which is logged.
///
/// # Errors
///
/// If the kernel refuses to change to `user`.
pub fn become_user(user: Option<User>) -> Result<bool> {
    let is_root = nix::unistd::geteuid().is_root();
    let stays = match user {
        Some(user) => user.is_root() && is_root,
        None => !is_root,
    };
    if stays {
        return Ok(false);
    }
    let User { uid, gid } = user.unwrap_or(User::NOBODY);
    caps::securebits::set_keepcaps(true).context("cannot keep the capabilities of this thread")?;
    let changed = change_user(uid, gid);
    caps::securebits::set_keepcaps(false).context("cannot let the capabilities go")?;
    match changed {
        Ok(()) => Ok(true),
        Err(error) if user.is_none() && error.raw_os_error() == Some(libc::EPERM) => {
            tracing::warn!(
                "pinwatch stays root, without capabilities, and can write root's files: it needs CAP_SETUID and CAP_SETGID to become the user {uid}"
            );
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| {
            format!("cannot become the user {uid} with the group {gid} (--user): start pinwatch as root with CAP_SETUID and CAP_SETGID")
        }),
    }
}

/// Changes groups and user of this thread alone. The functions of the C library would change all threads,
/// also the one that attaches.
fn change_user(uid: u32, gid: u32) -> io::Result<()> {
    let none = std::ptr::null::<libc::gid_t>();
    // SAFETY: the call reads no list of zero groups.
    let groups = unsafe { libc::syscall(libc::SYS_setgroups, 0, none) };
    done(groups)?;
    // SAFETY: the system call takes three integers.
    done(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: the system call takes three integers.
    done(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_by_name_and_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\npinwatch:!:998:997::/:/usr/sbin/nologin\nbad:x:y\n";
        let user = |uid, gid| User { uid, gid };
        assert_eq!(named(passwd, "root"), Some(user(0, 0)));
        assert_eq!(named(passwd, "pinwatch"), Some(user(998, 997)));
        for unknown in ["bad", "pin", "", "x"] {
            assert_eq!(named(passwd, unknown), None, "{unknown}");
        }
        assert_eq!("65534".parse(), Ok(User::NOBODY));
        assert_eq!("1:2".parse(), Ok(user(1, 2)));
        for wrong in [
            "",
            ":",
            "1:",
            "-1",
            "4294967295",
            "1:4294967295",
            "no such user",
        ] {
            assert!(wrong.parse::<User>().is_err(), "{wrong}");
        }
    }
}
