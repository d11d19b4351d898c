//! An owned memory mapping. Only this module maps memory, or reads and writes mapped memory.

use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::slice;

use libc::{c_void, iovec};
use nix::errno::Errno;
use nix::sys::mman::{
    MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};

use crate::spec::page_size;

/// Pages that stay mapped while this lives.
pub struct Mapping {
    start: NonNull<c_void>,
    len: usize,
}

// SAFETY: a Mapping owns its range, which all threads see alike. Only `&mut self` writes to it.
unsafe impl Send for Mapping {}
// SAFETY: `&self` only reads the range.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub fn anonymous(pages: usize, prot: ProtFlags, extra: MapFlags) -> nix::Result<Self> {
        let len = length(pages)?;
        // SAFETY: without MAP_FIXED the kernel chooses a free range, so no existing mapping changes.
        let start = unsafe { mmap_anonymous(None, len, prot, MapFlags::MAP_PRIVATE | extra)? };
        Ok(Self {
            start,
            len: len.get(),
        })
    }

    /// Anonymous and writable, at a multiple of `align` pages.
    pub fn aligned(pages: usize, align: usize) -> nix::Result<Self> {
        let mut whole = Self::anonymous(
            pages + align,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::empty(),
        )?;
        let head = whole.start.as_ptr().align_offset(align * page_size());
        whole.split_off(head + pages * page_size());
        Ok(whole.split_off(head))
    }

    /// Maps the pages of a file shared.
    pub fn shared(file: &File, pages: usize) -> nix::Result<Self> {
        let len = length(pages)?;
        // SAFETY: without MAP_FIXED the kernel chooses a free range, so no existing mapping changes.
        let start = unsafe {
            mmap(
                None,
                len,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                file,
                0,
            )?
        };
        Ok(Self {
            start,
            len: len.get(),
        })
    }

    /// Maps the first `window` pages of a memfd shared, repeatedly, until `pages` are mapped.
    pub fn repeated(memfd: &File, window: usize, pages: usize) -> nix::Result<Self> {
        let reserved = Self::anonymous(pages, ProtFlags::PROT_NONE, MapFlags::MAP_NORESERVE)?;
        for offset in (0..reserved.len).step_by(window * page_size()) {
            let len = length((reserved.len - offset).min(window * page_size()) / page_size())?;
            let at = NonZeroUsize::new(reserved.start.as_ptr() as usize + offset);
            // SAFETY: MAP_FIXED replaces a part of `reserved`, which this function owns and nobody uses yet.
            unsafe {
                mmap(
                    at,
                    len,
                    ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                    MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
                    memfd.as_fd(),
                    0,
                )?
            };
        }
        Ok(reserved)
    }

    /// Maps the pages of a file private, at a multiple of `align` pages.
    pub fn private(file: &File, pages: usize, align: usize) -> nix::Result<Self> {
        let reserved = Self::aligned(pages, align)?;
        let at = NonZeroUsize::new(reserved.address());
        // SAFETY: MAP_FIXED replaces `reserved`, which this function owns and nobody uses yet.
        unsafe {
            mmap(
                at,
                length(pages)?,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED,
                file,
                0,
            )?
        };
        Ok(reserved)
    }

    /// Keeps the first `at` bytes and returns the rest. Both may be empty.
    fn split_off(&mut self, at: usize) -> Self {
        // SAFETY: `at` lies within the mapping or at its end.
        let start = unsafe { self.start.byte_add(at) };
        let rest = Self {
            start,
            len: self.len - at,
        };
        self.len = at;
        rest
    }

    pub fn advise(&self, advice: MmapAdvise) -> nix::Result<()> {
        // SAFETY: this owns the range. The callers give advice about huge pages and forks, which keeps the content.
        unsafe { madvise(self.start, self.len, advice) }
    }

    /// Allows only reads, as [`bytes`](Self::bytes) needs them.
    pub fn forbid_writes(&mut self) -> nix::Result<()> {
        // SAFETY: this owns the range, and nobody writes to it later.
        unsafe { mprotect(self.start, self.len, ProtFlags::PROT_READ) }
    }

    /// Writes a byte to each page.
    pub fn write_pages(&mut self) {
        (0..self.pages()).for_each(|page| self.write_page(page));
    }

    /// Writes a byte to one page.
    pub fn write_page(&mut self, page: usize) {
        assert!(page < self.pages(), "the page is mapped");
        // SAFETY: the page lies within the mapping, which is writable. Volatile, because the page fault is the aim.
        unsafe {
            self.start
                .as_ptr()
                .cast::<u8>()
                .add(page * page_size())
                .write_volatile(1)
        };
    }

    /// Reads a byte of each page.
    pub fn read_pages(&self) {
        for offset in (0..self.len).step_by(page_size()) {
            // SAFETY: the offset lies within the mapping, which is readable.
            unsafe { self.start.as_ptr().cast::<u8>().add(offset).read_volatile() };
        }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped and readable while `self` lives. Writes need `&mut self`, or come from a system call that pins,
        // which starts after the last user of this slice has returned.
        unsafe { slice::from_raw_parts(self.start.as_ptr().cast(), self.len) }
    }

    pub fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    pub fn pages(&self) -> usize {
        self.len / page_size()
    }

    /// The range in pieces of at most `bytes`, for system calls.
    pub fn iovecs(&self, bytes: usize) -> impl Iterator<Item = iovec> {
        self.iovecs_of(0..self.pages(), bytes)
    }

    /// Some of the pages in pieces of at most `bytes`.
    pub fn iovecs_of(&self, pages: Range<usize>, bytes: usize) -> impl Iterator<Item = iovec> {
        let end = self.len.min(pages.end * page_size());
        (pages.start * page_size()..end)
            .step_by(bytes)
            .map(move |offset| iovec {
                iov_base: self.start.as_ptr().wrapping_byte_add(offset),
                iov_len: (end - offset).min(bytes),
            })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: this owns the range, and nobody borrows it any more. It fails for bad arguments only.
            let _ = unsafe { munmap(self.start, self.len) };
        }
    }
}

fn length(pages: usize) -> nix::Result<NonZeroUsize> {
    pages
        .checked_mul(page_size())
        .and_then(NonZeroUsize::new)
        .ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_is_aligned_and_writable() {
        let mut map = Mapping::aligned(512, 512).unwrap();
        assert_eq!(map.address() % (512 * page_size()), 0);
        assert_eq!(map.pages(), 512);
        map.write_pages();
        assert_eq!(map.bytes()[511 * page_size()], 1);
    }

    #[test]
    fn iovecs_cover_the_range() {
        let map = Mapping::anonymous(5, ProtFlags::PROT_READ, MapFlags::empty()).unwrap();
        let lengths: Vec<_> = map
            .iovecs(2 * page_size())
            .map(|iovec| iovec.iov_len / page_size())
            .collect();
        assert_eq!(lengths, [2, 2, 1]);
        let part: Vec<_> = map.iovecs_of(1..9, 3 * page_size()).collect();
        let starts = part
            .iter()
            .map(|iovec| iovec.iov_base as usize - map.address());
        assert_eq!(starts.collect::<Vec<_>>(), [page_size(), 4 * page_size()]);
        assert_eq!(part[1].iov_len, page_size());
    }
}
