//! A file in a tmpfs of its own, which has huge pages and no mount point: it is gone with its last descriptor.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use libc::{c_char, c_long};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::Unavailable;
use crate::spec::page_size;

/// `enum fsconfig_command` (include/uapi/linux/mount.h).
const FSCONFIG_SET_STRING: c_long = 1;
const FSCONFIG_CMD_CREATE: c_long = 6;
const FSOPEN_CLOEXEC: c_long = 1;
const FSMOUNT_CLOEXEC: c_long = 1;

/// An empty file of this many pages, whose folios are huge pages.
pub fn huge_file(pages: usize) -> anyhow::Result<File> {
    let mount = mount().map_err(|errno| {
        Unavailable::because(format!(
            "--memory private needs a tmpfs with huge pages, and the kernel refused one ({errno}): run it as root (CAP_SYS_ADMIN)"
        ))
    })?;
    let file = openat(
        &mount,
        c"pinwatch-load",
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC,
        Mode::S_IRUSR | Mode::S_IWUSR,
    )?;
    let file = File::from(file);
    file.set_len((pages * page_size()) as u64)?;
    Ok(file)
}

/// A tmpfs that is mounted nowhere.
fn mount() -> nix::Result<OwnedFd> {
    // SAFETY: the name is a C string. The descriptor is new.
    let context = unsafe {
        descriptor(libc::syscall(
            libc::SYS_fsopen,
            c"tmpfs".as_ptr(),
            FSOPEN_CLOEXEC,
        ))?
    };
    configure(&context, FSCONFIG_SET_STRING, Some((c"huge", c"always")))?;
    configure(&context, FSCONFIG_CMD_CREATE, None)?;
    // SAFETY: takes a descriptor and flags. The descriptor that it returns is new.
    unsafe {
        descriptor(libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            0,
        ))
    }
}

fn configure(
    context: &OwnedFd,
    command: c_long,
    setting: Option<(&CStr, &CStr)>,
) -> nix::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null::<c_char>(), CStr::as_ptr);
    let (key, value) = setting.unzip();
    // SAFETY: the kernel reads the strings, which live until the call returns.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            pointer(key),
            pointer(value),
            0,
        )
    })
    .map(drop)
}

/// # Safety
///
/// `returned` is an error or a descriptor that nobody owns.
unsafe fn descriptor(returned: c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(returned)?;
    // SAFETY: the caller promises it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
