//! Decompresses kernels, in every format that the kernel's build offers, and modules.
//!
//! A guest boots seconds faster from an uncompressed kernel.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::debian::lzop;

/// Bytes of length that the kernel's build appends to all formats but gzip.
const APPENDED: usize = 4;

#[derive(Clone, Copy)]
enum Format {
    Gzip,
    Bzip2,
    Lzma,
    Xz,
    Lzo,
    /// The legacy format, which has no end mark.
    Lz4,
    Zstd,
}

/// The first bytes of each format.
const MAGIC: &[(&[u8], Format)] = &[
    (b"\x1f\x8b", Format::Gzip),
    (b"BZh", Format::Bzip2),
    (b"\x5d\0\0", Format::Lzma),
    (b"\xfd7zXZ\0", Format::Xz),
    (lzop::MAGIC, Format::Lzo),
    (b"\x02\x21\x4c\x18", Format::Lz4),
    (b"\x28\xb5\x2f\xfd", Format::Zstd),
];

/// A file's contents, decompressed if it is compressed.
pub fn file(path: &Path) -> Result<Vec<u8>> {
    let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    match format(&data) {
        Some(format) => decompress(format, &data)
            .with_context(|| format!("cannot decompress {}", path.display())),
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
    let format = format(payload).context("the kernel is compressed in an unknown format")?;
    let kernel = match format {
        Format::Lz4 => decompress(format, &payload[..payload.len() - APPENDED]),
        _ => decompress(format, payload),
    };
    let kernel = kernel.context("cannot decompress the kernel inside the image")?;
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
        let format = format(payload).context("the kernel is compressed in an unknown format")?;
        decompress(format, payload)?
    } else if let Some(format) = format(&image) {
        decompress(format, &image)?
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

fn format(data: &[u8]) -> Option<Format> {
    let mut formats = MAGIC.iter();
    let (_, format) = formats.find(|(magic, _)| data.starts_with(magic))?;
    Some(*format)
}

/// The first stream of the data. All formats but legacy LZ4 end by themselves; anything after is ignored.
fn decompress(format: Format, data: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    match format {
        Format::Gzip => flate2::bufread::GzDecoder::new(data).read_to_end(&mut plain)?,
        Format::Bzip2 => bzip2::bufread::BzDecoder::new(data).read_to_end(&mut plain)?,
        Format::Lzma => {
            let stream = liblzma::stream::Stream::new_lzma_decoder(u64::MAX)?;
            liblzma::bufread::XzDecoder::new_stream(data, stream).read_to_end(&mut plain)?
        }
        Format::Xz => liblzma::bufread::XzDecoder::new(data).read_to_end(&mut plain)?,
        Format::Lzo => lzop::decompress(data, &mut plain)?,
        Format::Lz4 => lz4_flex::frame::FrameDecoder::new(data).read_to_end(&mut plain)?,
        Format::Zstd => zstd::stream::read::Decoder::with_buffer(data)?
            .single_frame()
            .read_to_end(&mut plain)?,
    };
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's Makefiles make of the same ELF file: each tool's output, then the length.
    const PAYLOADS: [(&str, &[u8]); 7] = [
        ("gzip", include_bytes!("decompress/elf.gz")),
        ("bzip2", include_bytes!("decompress/elf.bz2")),
        ("lzma", include_bytes!("decompress/elf.lzma")),
        ("xz", include_bytes!("decompress/elf.xz")),
        ("lzo", include_bytes!("decompress/elf.lzo")),
        ("lz4", include_bytes!("decompress/elf.lz4")),
        ("zstd", include_bytes!("decompress/elf.zst")),
    ];

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        image.extend([0xff; 64]);
        image
    }

    #[test]
    fn images_in_all_formats() {
        let mut plain = b"\x7fELF".to_vec();
        plain.extend(b"not really a kernel, but long enough to be compressed. ".repeat(40));
        for (name, payload) in PAYLOADS {
            let kernel = vmlinux(&image(payload));
            assert!(
                kernel.unwrap_or_else(|why| panic!("{name}: {why:#}")) == plain,
                "{name}"
            );
        }
    }

    #[test]
    fn damaged_images() {
        for (name, payload) in PAYLOADS {
            assert!(
                vmlinux(&image(&payload[..payload.len() / 2])).is_err(),
                "{name}"
            );
        }
        assert!(vmlinux(&image(b"unknown")).is_err());
        assert!(vmlinux(b"short").is_err());
        let mut cut = image(PAYLOADS[0].1);
        cut.truncate(1100);
        assert!(vmlinux(&cut).is_err());
    }
}
