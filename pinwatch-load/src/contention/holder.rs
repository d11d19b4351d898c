//! What `--hold` takes: whatever keeps pages of the range in use until it is dropped.
#![forbid(unsafe_code)]

use anyhow::Context as _;

use super::extra_refs::ExtraRefs;
use super::locked_page::LockedPage;
use super::long_term_pin::LongTermPin;
use super::page_writeback;
use super::weak_pin::{WeakPin, WeakSpan};
use crate::memory::buffer::Buffer;
use crate::memory::mapping::Mapping;
use crate::spec::Hold;

/// It holds by existing.
pub enum Holder {
    Weak(WeakPin),
    Other(#[expect(dead_code, reason = "holds by existing")] Box<dyn Send>),
}

impl Holder {
    /// Ends the hold.
    pub fn end(self) -> Option<WeakSpan> {
        match self {
            Self::Weak(pin) => Some(pin.release()),
            Self::Other(_) => None,
        }
    }
}

/// Takes the hold on the memory of a pin.
pub fn take(hold: Hold, buffer: &mut Buffer) -> anyhow::Result<Option<Holder>> {
    let Buffer {
        map,
        served,
        on_disk,
        ..
    } = buffer;
    let pages = hold.pages(map.pages());
    if pages.is_empty() {
        return Ok(None);
    }
    let served = || served.as_ref().context("this memory is no served file");
    let other: Box<dyn Send> = match hold {
        Hold::None => return Ok(None),
        Hold::Pages(_) | Hold::Last | Hold::All => Box::new(ExtraRefs::new(map, pages)?),
        Hold::Weak(_) => return Ok(Some(Holder::Weak(WeakPin::new(map, pages)?))),
        Hold::LongTerm(_) => Box::new(LongTermPin::new(map, pages)?),
        Hold::Locked => Box::new(LockedPage::new(served()?, map)?),
        Hold::Writeback => {
            let file = on_disk
                .as_ref()
                .context("this memory is no file on a disk")?;
            Box::new(page_writeback::start(served()?, file, map)?)
        }
    };
    Ok(Some(Holder::Other(other)))
}

/// Long-term pins that [`take`] makes.
pub fn long_term_pins(hold: Hold, map: &Mapping) -> u64 {
    match hold {
        Hold::LongTerm(_) => LongTermPin::pins(hold.pages(map.pages()).len()),
        _ => 0,
    }
}
