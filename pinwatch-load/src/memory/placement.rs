//! The zones of pages: page tables (`/proc/self/pagemap`) combined with `/proc/zoneinfo` and `/proc/kpageflags`.
//!
//! Reading them faults no page in and keeps no page from migrating.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use nix::sys::mman::{MapFlags, ProtFlags};

use crate::memory::mapping::Mapping;
use crate::memory::zones::Zones;
use crate::spec::page_size;

/// Flags of `/proc/kpageflags`.
pub const KPF_LOCKED: u64 = 1 << 0;
pub const KPF_WRITEBACK: u64 = 1 << 8;

/// Base pages by zone name, or by `absent`, `swapped`, `zero-page`, `unknown`.
pub type PagesIn = BTreeMap<String, u64>;

/// Reads the zones of this process's pages.
pub struct PlacementReader {
    zones: Zones,
    pagemap: File,
    page_flags: File,
    zero_pfn: u64,
}

impl PlacementReader {
    /// Returns None without the privilege to read page frame numbers.
    pub fn open() -> anyhow::Result<Option<Self>> {
        let pagemap = File::open("/proc/self/pagemap").context("cannot open /proc/self/pagemap")?;
        let (Ok(zoneinfo), Ok(page_flags)) = (
            fs::read_to_string("/proc/zoneinfo"),
            File::open("/proc/kpageflags"),
        ) else {
            return Ok(None);
        };
        // A page that was only read maps the zero page, so pagemap has its frame number.
        let page = Mapping::anonymous(1, ProtFlags::PROT_READ, MapFlags::empty())?;
        page.read_pages();
        let mut word = [0; 8];
        pagemap.read_exact_at(&mut word, word_offset(&page, 0))?;
        match Entry::from(word) {
            Entry::Frame(0) | Entry::Absent | Entry::Swapped => Ok(None),
            Entry::Frame(zero_pfn) => Ok(Some(Self {
                zones: Zones::parse(&zoneinfo),
                pagemap,
                page_flags,
                zero_pfn,
            })),
        }
    }

    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// Base pages of a mapping by zone.
    pub fn count(&self, map: &Mapping) -> io::Result<PagesIn> {
        let mut pages_in = PagesIn::new();
        self.each_entry(map, |entry| {
            let place = self.place(entry);
            match pages_in.get_mut(place) {
                Some(pages) => *pages += 1,
                None => _ = pages_in.insert(place.to_owned(), 1),
            }
            Ok(())
        })?;
        Ok(pages_in)
    }

    /// Page frame of each page; `None` for the zero page, and where there is no page.
    pub fn frames(&self, map: &Mapping) -> io::Result<Vec<Option<u64>>> {
        let mut frames = Vec::with_capacity(map.pages());
        self.each_entry(map, |entry| {
            frames.push(match entry {
                Entry::Frame(pfn) if pfn != self.zero_pfn => Some(pfn),
                Entry::Frame(_) | Entry::Absent | Entry::Swapped => None,
            });
            Ok(())
        })?;
        Ok(frames)
    }

    /// Base pages that are part of a transparent huge page.
    pub fn huge(&self, map: &Mapping) -> io::Result<u64> {
        const KPF_THP: u64 = 1 << 22;
        let mut huge = 0;
        self.each_entry(map, |entry| {
            huge += u64::from(self.has(entry, KPF_THP)?);
            Ok(())
        })?;
        Ok(huge)
    }

    /// Whether the first page of a mapping has this flag now.
    pub fn first_page_has(map: &Mapping, flag: u64) -> anyhow::Result<bool> {
        let reader = Self::open()?.context("the flags of pages need root (CAP_SYS_ADMIN)")?;
        let mut word = [0; 8];
        reader
            .pagemap
            .read_exact_at(&mut word, word_offset(map, 0))?;
        Ok(reader.has(Entry::from(word), flag)?)
    }

    fn has(&self, entry: Entry, flag: u64) -> io::Result<bool> {
        let Entry::Frame(pfn) = entry else {
            return Ok(false);
        };
        let mut word = [0; 8];
        self.page_flags.read_exact_at(&mut word, 8 * pfn)?;
        Ok(u64::from_ne_bytes(word) & flag != 0)
    }

    fn each_entry(
        &self,
        map: &Mapping,
        mut visit: impl FnMut(Entry) -> io::Result<()>,
    ) -> io::Result<()> {
        const CHUNK: usize = 8192;
        let mut chunk = vec![0; 8 * CHUNK.min(map.pages())];
        for first in (0..map.pages()).step_by(CHUNK) {
            let words = &mut chunk[..8 * CHUNK.min(map.pages() - first)];
            self.pagemap.read_exact_at(words, word_offset(map, first))?;
            words
                .as_chunks()
                .0
                .iter()
                .try_for_each(|word| visit(Entry::from(*word)))?;
        }
        Ok(())
    }

    fn place(&self, entry: Entry) -> &str {
        match entry {
            Entry::Absent => "absent",
            Entry::Swapped => "swapped",
            Entry::Frame(pfn) if pfn == self.zero_pfn => "zero-page",
            Entry::Frame(pfn) => self.zones.of(pfn).map_or("unknown", |zone| &zone.name),
        }
    }
}

/// Pages that are in another frame after than before.
pub fn moved(before: &[Option<u64>], after: &[Option<u64>]) -> u64 {
    let pairs = before.iter().zip(after);
    pairs
        .filter(|(before, after)| before.is_some() && after.is_some() && before != after)
        .count() as u64
}

/// One 64-bit word of pagemap (Documentation/admin-guide/mm/pagemap.rst).
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Absent,
    Swapped,
    Frame(u64),
}

impl From<[u8; 8]> for Entry {
    fn from(word: [u8; 8]) -> Self {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const FRAME: u64 = (1 << 55) - 1;
        match u64::from_ne_bytes(word) {
            word if word & PRESENT != 0 => Self::Frame(word & FRAME),
            word if word & SWAPPED != 0 => Self::Swapped,
            _ => Self::Absent,
        }
    }
}

fn word_offset(map: &Mapping, page: usize) -> u64 {
    8 * (map.address() / page_size() + page) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_move_from_one_frame_to_another() {
        let before = [Some(1), Some(2), None, Some(4)];
        assert_eq!(moved(&before, &[Some(9), Some(2), Some(3), None]), 1);
    }

    #[test]
    fn entries_are_decoded() {
        assert_eq!(
            Entry::from(((1u64 << 63) | (1 << 55) | 7).to_ne_bytes()),
            Entry::Frame(7)
        );
        assert_eq!(Entry::from((1u64 << 62).to_ne_bytes()), Entry::Swapped);
        assert_eq!(Entry::from([0; 8]), Entry::Absent);
    }
}
