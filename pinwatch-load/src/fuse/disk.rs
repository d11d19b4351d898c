//! A disk in a served file: a loop device with a FAT file system, which has no place in the file tree either.
//!
//! Its pages are those of a disk file system: they stay under writeback until the server answers, on every kernel.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd;

use anyhow::Context as _;
use nix::errno::Errno;

use super::mount::mount_disk;
use super::served_file::ServedFile;
use crate::error::Unavailable;
use crate::spec::page_size;

const SECTOR: usize = 512;
/// Sectors before the file allocation table.
const RESERVED: usize = 8;
/// Sectors of the table: it can have an entry of 12 bits for each of 4,084 clusters.
const TABLE: usize = 12;
const ROOT_ENTRIES: usize = 512;
const ROOT: usize = ROOT_ENTRIES * 32 / SECTOR;
const PER_CLUSTER: usize = 8;
const MOST_CLUSTERS: usize = 4000;

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config`, as 32-bit words.
type LoopConfig = [u32; 76];
const CONFIG_FD: usize = 0;
const CONFIG_FLAGS: usize = 15;

/// A file of this many pages, all written, on a disk that the served file is.
pub fn file_on_disk(pages: usize) -> anyhow::Result<(ServedFile, File)> {
    let served = ServedFile::new(image(pages * page_size())?)?;
    let (path, disk) = loop_device(&served.file).map_err(|error| {
        Unavailable::because(format!(
            "--memory disk needs a free loop device: {error}. Load the module loop (modprobe loop)"
        ))
    })?;
    let root = mount_disk(&path).map_err(|errno| {
        Unavailable::because(format!(
            "--memory disk needs a FAT file system: {errno}. Load its modules (modprobe -a msdos nls_cp437)"
        ))
    })?;
    // The mount keeps the device, which goes when nothing uses it.
    drop(disk);
    let file = format!("/proc/self/fd/{}/pages", root.as_raw_fd());
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(file)?;
    file.write_all(&vec![1; pages * page_size()])
        .and_then(|()| file.sync_all())
        .context("cannot write a file on the served disk")?;
    Ok((served, file))
}

/// An empty FAT12 file system with room for a file of this many bytes.
fn image(bytes: usize) -> anyhow::Result<Vec<u8>> {
    let clusters = bytes.div_ceil(PER_CLUSTER * SECTOR) + 16;
    anyhow::ensure!(
        clusters <= MOST_CLUSTERS,
        Unavailable::because("--memory disk has too little room: use fewer --pages")
    );
    let sectors = RESERVED + TABLE + ROOT + clusters * PER_CLUSTER;
    let mut image = vec![0; sectors * SECTOR];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let short = |number: usize| (number as u16).to_le_bytes();
    put(0, &[0xeb, 0x3c, 0x90]);
    put(11, &short(SECTOR));
    put(13, &[PER_CLUSTER as u8]);
    put(14, &short(RESERVED));
    // One table.
    put(16, &[1]);
    put(17, &short(ROOT_ENTRIES));
    put(19, &short(sectors));
    put(21, &[0xf8]);
    put(22, &short(TABLE));
    put(SECTOR - 2, &[0x55, 0xaa]);
    put(RESERVED * SECTOR, &[0xf8, 0xff, 0xff]);
    Ok(image)
}

/// Gives a file to a free loop device, which lets it go when it is closed.
fn loop_device(file: &File) -> std::io::Result<(String, File)> {
    let open = |path: &str| File::options().read(true).write(true).open(path);
    let control = open("/dev/loop-control")?;
    // SAFETY: takes no argument.
    let number = Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
    let path = format!("/dev/loop{number}");
    let device = open(&path)?;
    let mut config: LoopConfig = [0; 76];
    config[CONFIG_FD] = file.as_raw_fd() as u32;
    config[CONFIG_FLAGS] = LO_FLAGS_AUTOCLEAR;
    // SAFETY: the kernel reads `config`, which lives until the call returns.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    Errno::result(done)?;
    Ok((path, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_room_for_its_file() {
        let image = image(16 * 4096).unwrap();
        assert_eq!(
            image.len(),
            (RESERVED + TABLE + ROOT + 32 * PER_CLUSTER) * SECTOR
        );
        assert_eq!(image[SECTOR - 2..SECTOR], [0x55, 0xaa]);
        assert!(super::image(usize::MAX / 2).is_err());
    }
}
