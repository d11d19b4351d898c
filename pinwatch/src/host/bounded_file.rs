//! Files that people write: read whole, and of a size that is to be expected.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// More than any of them has.
const MOST_BYTES: u64 = 1 << 20;

/// Reads a file of up to 1 MiB.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "more than 1 MiB"));
    }
    Ok(bytes)
}

/// The same as text.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::new(ErrorKind::InvalidData, "no UTF-8"))
}
