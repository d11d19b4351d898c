//! Reads whole files that people write, up to 1 MiB. The bound keeps a wrong path from filling memory.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// Far above the size of any configuration file or certificate.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a file. `FileTooLarge` if it has more than 1 MiB.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            "the file has more than 1 MiB; check the path",
        ));
    }
    Ok(bytes)
}

/// Reads a file as text. `InvalidData` if it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "the file is not UTF-8 text"))
}
