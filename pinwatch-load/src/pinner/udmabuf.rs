//! udmabuf: a DMA buffer made of a memfd's pages. From 6.12 on it pins them long-term by `memfd_pin_folios`; before, it
//! only takes references. The pin lasts as long as the buffer's descriptor.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::Context;

use super::{Attempt, Pinner};
use crate::Unavailable;
use crate::memory::buffer::Buffer;
use crate::plan::PAGE;

/// `struct udmabuf_create`.
#[repr(C)]
struct Create {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

nix::ioctl_write_ptr!(udmabuf_create, b'u', 0x42, Create);

const FLAGS_CLOEXEC: u32 = 1;

pub struct Device {
    device: File,
    made: Option<OwnedFd>,
}

impl Device {
    pub fn open(pages: usize) -> anyhow::Result<Self> {
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/udmabuf")
            .map_err(|error| {
                Unavailable::because(match error.kind() {
                    ErrorKind::NotFound => {
                        "no /dev/udmabuf (CONFIG_UDMABUF): try --via io_uring --memory memfd"
                            .to_owned()
                    }
                    ErrorKind::PermissionDenied => {
                        "/dev/udmabuf may not be opened: run it as root, or join the group kvm"
                            .to_owned()
                    }
                    _ => format!("/dev/udmabuf: {error}"),
                })
            })?;
        let limit = "/sys/module/udmabuf/parameters/size_limit_mb";
        match fs::read_to_string(limit)
            .ok()
            .and_then(|text| text.trim().parse::<usize>().ok())
        {
            Some(mib) if pages * PAGE > mib << 20 => Err(Unavailable::because(format!(
                "a udmabuf has at most {mib} MiB here ({limit})"
            ))),
            _ => Ok(Self { device, made: None }),
        }
    }
}

impl Pinner for Device {
    fn pin(&mut self, buffer: &Buffer) -> anyhow::Result<Attempt> {
        let memfd = buffer
            .memfd
            .as_ref()
            .context("a udmabuf is made of a memfd")?;
        let create = Create {
            memfd: memfd.as_raw_fd() as u32,
            flags: FLAGS_CLOEXEC,
            offset: 0,
            size: (buffer.map.pages() * PAGE) as u64,
        };
        // SAFETY: `create` lives until the call returns.
        let (attempt, fd) =
            Attempt::time(|| unsafe { udmabuf_create(self.device.as_raw_fd(), &create) });
        // SAFETY: the descriptor that the call returned is new and nobody else's.
        self.made = fd.map(|fd: RawFd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(attempt)
    }

    fn unpin(&mut self) -> anyhow::Result<()> {
        self.made = None;
        Ok(())
    }
}
