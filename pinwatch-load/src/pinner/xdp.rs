//! AF_XDP: one long-term pin per umem, by `xdp_umem_pin_pages`.
//!
//! A umem lives as long as its socket, so each pin needs a new socket. The kernel can unpin in a work item, shortly
//! after the socket is closed.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{AF_XDP, SOCK_CLOEXEC, SOCK_RAW, SOL_XDP, XDP_UMEM_REG, xdp_umem_reg};
use nix::errno::Errno;

use super::attempt::{Attempt, Pinner};
use crate::error::Unavailable;
use crate::memory::buffer::Buffer;
use crate::spec::page_size;

pub struct Umem {
    /// The socket of the next pin, then of the present one.
    socket: Option<OwnedFd>,
}

impl Umem {
    pub fn open() -> anyhow::Result<Self> {
        let socket = socket().map_err(|errno| {
            Unavailable::because(match errno {
                Errno::EAFNOSUPPORT => "this kernel has no AF_XDP: use --via io_uring".to_owned(),
                Errno::EPERM => {
                    "AF_XDP sockets need root (CAP_NET_RAW): use --via io_uring".to_owned()
                }
                errno => {
                    format!("the kernel refused an AF_XDP socket ({errno}): use --via io_uring")
                }
            })
        })?;
        Ok(Self {
            socket: Some(socket),
        })
    }
}

impl Pinner for Umem {
    fn pin(&mut self, buffer: &Buffer) -> anyhow::Result<Attempt> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => socket()?,
        };
        let umem = xdp_umem_reg {
            addr: buffer.map.address() as u64,
            len: (buffer.map.pages() * page_size()) as u64,
            chunk_size: page_size() as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        let (attempt, _) = Attempt::time(|| {
            // SAFETY: `umem` lives until the call returns. Its range stays mapped until after `unpin`.
            Errno::result(unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    SOL_XDP,
                    XDP_UMEM_REG,
                    (&raw const umem).cast(),
                    size_of_val(&umem) as u32,
                )
            })
        });
        self.socket = Some(socket);
        Ok(attempt)
    }

    fn unpin(&mut self) -> anyhow::Result<()> {
        self.socket = None;
        Ok(())
    }
}

fn socket() -> nix::Result<OwnedFd> {
    // SAFETY: takes integers only.
    let fd = Errno::result(unsafe { libc::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
