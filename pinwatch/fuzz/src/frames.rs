//! Frames of a recording with correct checksums, which random bytes would never form.

use pinwatch::host::machine::Machine;
use pinwatch::model::session::Start;
use pinwatch::recording::{Header, Writer};

const MAGIC: usize = 8;
const MARK: [u8; 4] = *b"\xf5PwF";
const HEAD: usize = 12;

/// Start of a daemon that measures nothing.
#[must_use]
pub fn start() -> Start {
    Start {
        version: String::new(),
        abi: pinwatch_common::abi::ABI_VERSION,
        release: String::new(),
        era: String::new(),
        wall_offset_ns: 0,
        status: Box::default(),
    }
}

/// Header of a recording by that daemon.
#[must_use]
pub fn header() -> Header {
    Header::new(start(), None, Machine::default())
}

/// The file with correct checksums of all frames that follow each other from the first on.
#[must_use]
pub fn repaired(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let mut at = MAGIC;
    while let Some(head) = file.get(at..at + HEAD) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(body) = file.get(at + HEAD..at.saturating_add(HEAD).saturating_add(length)) else {
            break;
        };
        let sum = crc32fast::hash(body);
        file[at..at + 4].copy_from_slice(&MARK);
        file[at + 8..at + HEAD].copy_from_slice(&sum.to_le_bytes());
        at += HEAD + length;
    }
    file
}

/// A recording whose frames have these bodies. Two bytes before each body are its length.
#[must_use]
pub fn framed(bodies: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    Writer::new(&mut file, &header(), false).expect("a write to a Vec cannot fail");
    for body in split(bodies) {
        file.extend(MARK);
        file.extend((body.len() as u32).to_le_bytes());
        file.extend(crc32fast::hash(body).to_le_bytes());
        file.extend(body);
    }
    file
}

/// Parts of the input, each after two bytes with its length.
pub fn split(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        input = rest;
        Some(part)
    })
}
