//! Mounts without a place in the file tree, so that nothing is left to unmount. The root of the FUSE mount is a regular file.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use crate::error::Unavailable;

const DEVICE: &str = "/dev/fuse";

/// `FSCONFIG_*`.
const SET_STRING: libc::c_uint = 1;
const CMD_CREATE: libc::c_uint = 6;

/// Opens the device and mounts it. The first request waits in the device.
pub fn mount() -> anyhow::Result<(File, OwnedFd)> {
    let device = File::options().read(true).write(true).open(DEVICE);
    let device = device.map_err(|error| {
        Unavailable::because(format!(
            "cannot open {DEVICE}: {error}. Load the module fuse (modprobe fuse)"
        ))
    })?;
    let mounted = mount_device(&device).map_err(|errno| match errno {
        Errno::EPERM => Unavailable::because(
            "--memory file mounts a file system: run it as root (CAP_SYS_ADMIN)",
        ),
        errno => anyhow::anyhow!("cannot mount a FUSE file system: {errno}"),
    })?;
    Ok((device, mounted))
}

fn mount_device(device: &File) -> nix::Result<OwnedFd> {
    mount_with(
        c"fuse",
        &[
            (c"fd", device.as_raw_fd().to_string()),
            (c"rootmode", format!("{:o}", libc::S_IFREG | 0o600)),
            (c"user_id", Uid::effective().to_string()),
            (c"group_id", Gid::effective().to_string()),
        ],
    )
}

/// Mounts the FAT file system of a block device.
pub fn mount_disk(path: &str) -> nix::Result<OwnedFd> {
    mount_with(c"msdos", &[(c"source", path.to_owned())])
}

fn mount_with(kind: &CStr, options: &[(&CStr, String)]) -> nix::Result<OwnedFd> {
    let context = new_fd(|| {
        // SAFETY: the name lives until the call returns.
        unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 0) }
    })?;
    for (key, value) in options {
        let value = CString::new(value.as_str()).map_err(|_| Errno::EINVAL)?;
        configure(&context, SET_STRING, Some((key, &value)))?;
    }
    configure(&context, CMD_CREATE, None)?;
    new_fd(|| {
        // SAFETY: takes integers only.
        unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 0, 0) }
    })
}

fn configure(
    context: &OwnedFd,
    command: libc::c_uint,
    option: Option<(&CStr, &CStr)>,
) -> nix::Result<()> {
    let null = std::ptr::null();
    let (key, value) = option.map_or((null, null), |(key, value)| (key.as_ptr(), value.as_ptr()));
    // SAFETY: the strings live until the call returns.
    let done = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key,
            value,
            0,
        )
    };
    Errno::result(done).map(drop)
}

fn new_fd(call: impl FnOnce() -> libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(call())?;
    // SAFETY: the descriptor is new, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Gives the calling thread a table of descriptors of its own, with none but the standard streams.
///
/// The kernel closes the files of a process one table at a time. A file that waits for its server when it is closed
/// must not be in the table of that server.
pub fn separate_descriptors() -> io::Result<()> {
    // SAFETY: the thread has no descriptor that it uses later, and those of other threads stay open.
    let done = unsafe {
        Errno::result(libc::unshare(libc::CLONE_FILES)).and_then(|_| {
            Errno::result(libc::syscall(
                libc::SYS_close_range,
                3,
                libc::c_uint::MAX,
                0,
            ))
        })
    };
    Ok(done.map(drop)?)
}
