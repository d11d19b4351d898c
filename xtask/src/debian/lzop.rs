//! The container of `lzop`, around blocks of LZO1X (Linux, lib/decompress_unlzo.c).

use anyhow::{Context, Result, bail, ensure};

pub const MAGIC: &[u8] = b"\x89LZO\0\r\n\x1a\n";

/// Flags in the header. Checksums are skipped: they are of no use where the result must be an ELF file.
const ADLER32: u32 = 0x1;
const ADLER32_COMPRESSED: u32 = 0x2;
const CRC32: u32 = 0x100;
const CRC32_COMPRESSED: u32 = 0x200;
const FILTER: u32 = 0x800;

/// The first version with the fields that need it.
const EXTENDED: u16 = 0x940;

/// Appends the plain data. Returns its length.
pub fn decompress(data: &[u8], plain: &mut Vec<u8>) -> Result<usize> {
    let mut input = Input(data);
    let flags = header(&mut input)?;
    let count = |bits: u32| 4 * (flags & bits).count_ones() as usize;
    loop {
        let length = input.u32()? as usize;
        if length == 0 {
            return Ok(plain.len());
        }
        let stored = input.u32()? as usize;
        ensure!(stored <= length, "a block is longer than its contents");
        input.take(count(ADLER32 | CRC32))?;
        if stored == length {
            plain.extend(input.take(stored)?);
            continue;
        }
        input.take(count(ADLER32_COMPRESSED | CRC32_COMPRESSED))?;
        let block = lzokay_native::decompress_all(input.take(stored)?, Some(length));
        match block {
            Ok(block) if block.len() == length => plain.extend(block),
            Ok(_) => bail!("a block has the wrong length"),
            Err(error) => bail!("a block is damaged: {error}"),
        }
    }
}

/// Reads the header. Returns its flags.
fn header(input: &mut Input<'_>) -> Result<u32> {
    ensure!(input.take(MAGIC.len())? == MAGIC, "this is no lzop file");
    let version = input.u16()?;
    let extended = version >= EXTENDED;
    // The library's version, the version needed, the method, the level.
    input.take(if extended { 6 } else { 3 })?;
    let flags = input.u32()?;
    if flags & FILTER != 0 {
        input.u32()?;
    }
    // The mode, the time of change.
    input.take(if extended { 12 } else { 8 })?;
    let name = usize::from(input.take(1)?[0]);
    // The name, the header's checksum.
    input.take(name + 4)?;
    Ok(flags)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .context("the data end too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }
}
