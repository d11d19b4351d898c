//! Decompresses kernels and modules with the tools that `setup` installs.
//!
//! A guest boots seconds faster from an uncompressed kernel.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::child;

/// A compression format: its first bytes, its tool, and whether the tool rejects the four bytes of length
/// that the kernel's build appends.
struct Codec {
    magic: &'static [u8],
    tool: &'static [&'static str],
    rejects_length: bool,
}

const CODECS: &[Codec] = &[
    Codec {
        magic: b"\xfd7zXZ\0",
        tool: &["xz", "--single-stream"],
        rejects_length: false,
    },
    Codec {
        magic: b"\x28\xb5\x2f\xfd",
        tool: &["zstd"],
        rejects_length: true,
    },
    Codec {
        magic: b"\x02\x21\x4c\x18",
        tool: &["lz4"],
        rejects_length: true,
    },
    Codec {
        magic: b"\x1f\x8b",
        tool: &["gzip"],
        // The kernel's build appends nothing: gzip's own trailer ends with the length.
        rejects_length: false,
    },
];

/// A file's contents, decompressed if it is compressed.
pub fn file(path: &Path) -> Result<Vec<u8>> {
    let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    match codec(&data) {
        Some(codec) => {
            decompress(codec, data).with_context(|| format!("cannot decompress {}", path.display()))
        }
        None => Ok(data),
    }
}

/// The ELF image inside a bzImage (Linux, Documentation/arch/x86/boot.rst).
pub fn vmlinux(image: &[u8]) -> Result<Vec<u8>> {
    const SETUP_SECTS: usize = 0x1f1;
    const MAGIC: usize = 0x202;
    const PAYLOAD_OFFSET: usize = 0x248;
    const PAYLOAD_LENGTH: usize = 0x24c;
    ensure!(
        image.get(MAGIC..MAGIC + 4) == Some(b"HdrS"),
        "the image is not a bzImage"
    );
    let start = (usize::from(image[SETUP_SECTS]) + 1) * 512 + word(image, PAYLOAD_OFFSET)?;
    let end = start + word(image, PAYLOAD_LENGTH)?;
    let payload = image.get(start..end).context("the image is cut off")?;
    let codec = codec(payload).context("the kernel is compressed in an unknown format")?;
    let payload = if codec.rejects_length {
        &payload[..payload.len() - 4]
    } else {
        payload
    };
    let kernel = decompress(codec, payload.to_vec())?;
    ensure!(
        kernel.starts_with(b"\x7fELF"),
        "the kernel inside the image is not an ELF file"
    );
    Ok(kernel)
}

/// The uncompressed Image inside the `vmlinuz` of an arm64 kernel: an EFI application that decompresses it
/// (Linux, drivers/firmware/efi/libstub/zboot-header.S), the Image in gzip's format, or the Image itself.
pub fn arm64_image(image: Vec<u8>) -> Result<Vec<u8>> {
    const ZBOOT: &[u8] = b"MZ\0\0zimg";
    const PAYLOAD_OFFSET: usize = 8;
    const PAYLOAD_LENGTH: usize = 12;
    /// Of the Image (Linux, Documentation/arch/arm64/booting.rst).
    const MAGIC: usize = 56;
    let kernel = if image.starts_with(ZBOOT) {
        let start = word(&image, PAYLOAD_OFFSET)?;
        let end = start + word(&image, PAYLOAD_LENGTH)?;
        let payload = image.get(start..end).context("the image is cut off")?;
        let codec = codec(payload).context("the kernel is compressed in an unknown format")?;
        decompress(codec, payload.to_vec())?
    } else if let Some(codec) = codec(&image) {
        decompress(codec, image)?
    } else {
        image
    };
    ensure!(
        kernel.get(MAGIC..MAGIC + 4) == Some(b"ARM\x64"),
        "the image is not an arm64 kernel"
    );
    Ok(kernel)
}

/// The 32-bit number at an offset in an image.
fn word(image: &[u8], at: usize) -> Result<usize> {
    let bytes = image.get(at..at + 4).context("the image is too short")?;
    Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
}

fn codec(data: &[u8]) -> Option<&'static Codec> {
    CODECS.iter().find(|codec| data.starts_with(codec.magic))
}

fn decompress(codec: &Codec, data: Vec<u8>) -> Result<Vec<u8>> {
    let mut child = child::command(codec.tool[0])
        .args(&codec.tool[1..])
        .args(["--decompress", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", codec.tool[0]))?;
    let mut stdin = child.stdin.take().context("no pipe to the decompressor")?;
    let writer = thread::spawn(move || stdin.write_all(&data));
    let output = child.wait_with_output()?;
    // A tool may stop reading before the appended length. Its output and status decide.
    let _ = writer.join();
    if !output.status.success() {
        bail!("{} failed ({})", codec.tool[0], output.status);
    }
    Ok(output.stdout)
}
