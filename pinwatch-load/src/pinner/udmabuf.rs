//! udmabuf: a DMA buffer of memfd pages. From 6.12 on the kernel pins them long-term by `memfd_pin_folios`; before, it
//! takes references only. The pin lasts as long as the descriptor of the buffer.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::Context;

use super::attempt::{Attempt, Pinner};
use crate::error::Unavailable;
use crate::memory::buffer::Buffer;
use crate::spec::page_size;

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
                        "this kernel has no /dev/udmabuf (CONFIG_UDMABUF): use --via io_uring --memory memfd"
                            .to_owned()
                    }
                    ErrorKind::PermissionDenied => {
                        "this process may not open /dev/udmabuf: run it as root, or join the group kvm"
                            .to_owned()
                    }
                    _ => format!("cannot open /dev/udmabuf: {error}"),
                })
            })?;
        let limit = "/sys/module/udmabuf/parameters/size_limit_mb";
        match fs::read_to_string(limit)
            .ok()
            .and_then(|text| text.trim().parse::<usize>().ok())
        {
            Some(mib) if pages * page_size() > mib << 20 => Err(Unavailable::because(format!(
                "the kernel limits a udmabuf to {mib} MiB: use fewer --pages, or raise {limit}"
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
            .context("this buffer has no memfd, which a udmabuf needs")?;
        let create = Create {
            memfd: memfd.as_raw_fd() as u32,
            flags: FLAGS_CLOEXEC,
            offset: 0,
            size: (buffer.map.pages() * page_size()) as u64,
        };
        // SAFETY: `create` lives until the call returns.
        let (attempt, fd) =
            Attempt::time(|| unsafe { udmabuf_create(self.device.as_raw_fd(), &create) });
        // SAFETY: the descriptor is new, and nobody else owns it.
        self.made = fd.map(|fd: RawFd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(attempt)
    }

    fn unpin(&mut self) -> anyhow::Result<()> {
        self.made = None;
        Ok(())
    }
}
