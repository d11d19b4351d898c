//! The server's side of FUSE (include/uapi/linux/fuse.h), as far as one file needs it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use crate::memory::mapping::Mapping;

/// `FUSE_*`.
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const NOTIFY_STORE: u32 = 4;

const MAJOR: u32 = 7;
/// Since 5.4.
const MINOR: u32 = 31;
const MAX_WRITE: u32 = 128 << 10;
/// The header and the arguments of the longest request, without its data.
const LONGEST: usize = 4096;
const HEADER: usize = 40;
const OUT_HEADER: usize = 16;
/// `struct fuse_write_in`.
const WRITE_IN: usize = 40;
const ROOT: u64 = 1;
const KEEP_CACHE: u32 = 2;
/// Seconds for which the kernel keeps the attributes.
const FOR_EVER: u64 = 1 << 30;

/// A request arrives within this time.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

/// Holds the answers to writes back while it is shut.
#[derive(Default)]
pub struct Gate {
    /// `None`: it is open.
    waiting: Mutex<Option<Vec<Reply>>>,
    arrived: Condvar,
}

/// An answer: the number of the request, and its text.
pub struct Reply(u64, Vec<u8>);

impl Gate {
    pub fn shut(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    /// Waits until an answer is held back. Returns whether one is.
    pub fn holds_an_answer(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_empty =
            |waiting: &mut Option<Vec<Reply>>| waiting.as_ref().is_some_and(Vec::is_empty);
        let waited = self
            .arrived
            .wait_timeout_while(waiting, ARRIVES_WITHIN, is_empty);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Sends the answers that were held back.
    pub fn open(&self, device: &File) {
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        for Reply(unique, text) in waiting.into_iter().flatten() {
            let _ = reply(device, unique, Ok(&text));
        }
    }

    /// The reply, if it may be sent now.
    fn pass(&self, reply: Reply) -> Option<Reply> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.as_mut() {
            None => return Some(reply),
            Some(waiting) => waiting.push(reply),
        }
        self.arrived.notify_all();
        None
    }
}

/// Serves a file with this content until it is closed and unmapped.
pub fn serve(device: &File, mut content: Vec<u8>, gate: &Gate) {
    let size = content.len() as u64;
    let mut request = vec![0; LONGEST + MAX_WRITE as usize];
    loop {
        let text = match (&*device).read(&mut request) {
            Ok(read) if read >= HEADER => &request[..read],
            Err(error) if is_temporary(&error) => continue,
            // ENODEV: the file system is gone.
            Ok(_) | Err(_) => return,
        };
        let (unique, opcode) = (u64_at(text, 8), u32_at(text, 4));
        let answer = match opcode {
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => Ok(init(text)),
            GETATTR | SETATTR => Ok(attributes(size)),
            OPEN => Ok(words(&[0, 0, KEEP_CACHE, 0])),
            READ => Ok(content[range(text, content.len())].to_vec()),
            WRITE => {
                let range = range(text, content.len());
                let data = text.get(HEADER + WRITE_IN..).unwrap_or_default();
                let len = range.len().min(data.len());
                content[range][..len].copy_from_slice(&data[..len]);
                let written = words(&[len as u32, 0]);
                match gate.pass(Reply(unique, written)) {
                    Some(Reply(_, written)) => Ok(written),
                    None => continue,
                }
            }
            RELEASE => Ok(Vec::new()),
            // The kernel does without FLUSH and others from then on.
            _ => Err(Errno::ENOSYS),
        };
        let _ = reply(device, unique, answer.as_deref().map_err(|errno| *errno));
    }
}

/// Stores a page of data in the first page of the file. The kernel locks that page, then reads the data.
pub fn store(device: &File, data: &Mapping) -> io::Result<()> {
    let data = data.bytes();
    let mut head = Vec::new();
    head.extend(words(&[
        (OUT_HEADER + 24 + data.len()) as u32,
        NOTIFY_STORE,
        0,
        0,
    ]));
    head.extend(ROOT.to_ne_bytes());
    head.extend(words(&[0, 0, data.len() as u32, 0]));
    (&*device)
        .write_vectored(&[IoSlice::new(&head), IoSlice::new(data)])
        .map(drop)
}

/// The part of the file that a READ or a WRITE names.
fn range(request: &[u8], size: usize) -> Range<usize> {
    let from = (u64_at(request, HEADER + 8) as usize).min(size);
    from..from
        .saturating_add(u32_at(request, HEADER + 16) as usize)
        .min(size)
}

fn is_temporary(error: &io::Error) -> bool {
    // ENOENT: the request was interrupted before it was read.
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    matches!(errno, Errno::EINTR | Errno::EAGAIN | Errno::ENOENT)
}

fn reply(mut device: &File, unique: u64, answer: Result<&[u8], Errno>) -> io::Result<()> {
    let (text, error) = match answer {
        Ok(text) => (text, 0),
        Err(errno) => (&[][..], -(errno as i32)),
    };
    let mut message = Vec::new();
    message.extend(words(&[(OUT_HEADER + text.len()) as u32, error as u32]));
    message.extend(unique.to_ne_bytes());
    message.extend(text);
    device.write_all(&message)
}

/// `struct fuse_init_out`. Without read-ahead, each page is a folio of its own.
fn init(request: &[u8]) -> Vec<u8> {
    const BACKGROUND: u32 = 12 << 16 | 16;
    let minor = u32_at(request, HEADER + 4).min(MINOR);
    let mut text = words(&[MAJOR, minor, 0, 0, BACKGROUND, MAX_WRITE, 1]);
    text.resize(64, 0);
    text
}

/// `struct fuse_attr_out`.
fn attributes(size: u64) -> Vec<u8> {
    let blocks = size.div_ceil(512);
    let mut text = Vec::new();
    for long in [FOR_EVER, 0, ROOT, size, blocks, 0, 0, 0] {
        text.extend(long.to_ne_bytes());
    }
    let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let mode = libc::S_IFREG | 0o600;
    text.extend(words(&[0, 0, 0, mode, 1, uid, gid, 0, 4096, 0]));
    text
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn u32_at(text: &[u8], at: usize) -> u32 {
    let word = text.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u32::from_ne_bytes(*word))
}

fn u64_at(text: &[u8], at: usize) -> u64 {
    let word = text.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_sizes_that_the_kernel_expects() {
        let request = [0; HEADER + 16];
        assert_eq!((init(&request).len(), attributes(1).len()), (64, 104));
        assert_eq!(u64_at(&attributes(4096), 24), 4096);
        assert_eq!((u32_at(&[], 0), u64_at(&[0; 8], 1)), (0, 0));
        assert_eq!(
            (range(&request, 9), range(&[0xff; HEADER + 24], 9)),
            (0..0, 9..9)
        );
    }

    #[test]
    fn a_shut_gate_holds_answers_back() {
        let gate = Gate::default();
        assert!(gate.pass(Reply(1, Vec::new())).is_some());
        gate.shut();
        assert!(gate.pass(Reply(2, Vec::new())).is_none());
        assert!(gate.holds_an_answer());
    }
}
