//! Extra references that make migration fail: pages spliced into pipes.
#![forbid(unsafe_code)]

use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::OwnedFd;

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, vmsplice};
use nix::unistd::pipe2;

use crate::memory::mapping::Mapping;
use crate::spec::page_size;

/// Slots of a pipe that an unprivileged process may have. A slot holds one page.
const SLOTS: usize = 256;

/// Pipes that hold references to pages until this is dropped.
pub struct ExtraRefs {
    _pipes: Vec<(OwnedFd, OwnedFd)>,
}

impl ExtraRefs {
    /// Takes a reference to each of `pages`. Without SPLICE_F_GIFT, so that the pages stay mapped.
    pub fn new(map: &Mapping, pages: Range<usize>) -> anyhow::Result<Self> {
        let mut rest = &map.bytes()[pages.start * page_size()..pages.end * page_size()];
        let mut pipes = Vec::new();
        while !rest.is_empty() {
            let pipe = pipe2(OFlag::O_CLOEXEC).context("cannot hold the pages in pipes")?;
            // A pipe of the default size works too.
            let _ = fcntl(
                &pipe.1,
                FcntlArg::F_SETPIPE_SZ((SLOTS.min(rest.len() / page_size()) * page_size()) as i32),
            );
            rest = fill(&pipe.1, rest)?;
            pipes.push(pipe);
        }
        Ok(Self { _pipes: pipes })
    }
}

/// Splices until the pipe is full. Returns the rest.
fn fill<'a>(pipe: &OwnedFd, mut rest: &'a [u8]) -> anyhow::Result<&'a [u8]> {
    let all = rest.len();
    while !rest.is_empty() {
        match vmsplice(pipe, &[IoSlice::new(rest)], SpliceFFlags::SPLICE_F_NONBLOCK) {
            Ok(spliced) if spliced > 0 => rest = &rest[spliced..],
            Err(Errno::EINTR) => (),
            Err(Errno::EAGAIN) if rest.len() < all => break,
            Ok(_) => anyhow::bail!("vmsplice accepted no page"),
            Err(errno) => return Err(errno).context("vmsplice failed"),
        }
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use nix::sys::mman::{MapFlags, ProtFlags};

    use super::*;

    #[test]
    fn more_pages_than_one_pipe_holds() {
        let map = Mapping::anonymous(SLOTS + 1, ProtFlags::PROT_READ, MapFlags::empty()).unwrap();
        assert!(ExtraRefs::new(&map, 0..SLOTS + 1).unwrap()._pipes.len() > 1);
        assert_eq!(
            ExtraRefs::new(&map, SLOTS..SLOTS + 1).unwrap()._pipes.len(),
            1
        );
    }
}
