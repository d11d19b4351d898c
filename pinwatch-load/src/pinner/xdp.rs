//! AF_XDP: one long-term pin per umem, of the whole of it, by `xdp_umem_pin_pages`.
//!
//! A umem belongs to its socket and goes with it, so that each pin takes a new socket. The kernel may unpin
//! from a work item, a moment after the socket was closed.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{AF_XDP, SOCK_CLOEXEC, SOCK_RAW, SOL_XDP, XDP_UMEM_REG, xdp_umem_reg};
use nix::errno::Errno;

use super::{Attempt, Pinner};
use crate::Unavailable;
use crate::memory::buffer::Buffer;
use crate::plan::PAGE;

pub struct Umem {
    /// The socket for the next pin, then the one that pins.
    socket: Option<OwnedFd>,
}

impl Umem {
    pub fn open() -> anyhow::Result<Self> {
        let socket = socket().map_err(|errno| {
            Unavailable::because(match errno {
                Errno::EAFNOSUPPORT => "this kernel has no AF_XDP: try --via io_uring".to_owned(),
                Errno::EPERM => {
                    "AF_XDP sockets need root (CAP_NET_RAW): try --via io_uring".to_owned()
                }
                errno => format!("no AF_XDP socket: {errno}"),
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
            len: (buffer.map.pages() * PAGE) as u64,
            chunk_size: PAGE as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        let (attempt, _) = Attempt::time(|| {
            // SAFETY: `umem` lives until the call returns; the range that it names stays mapped until after `unpin`.
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
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
